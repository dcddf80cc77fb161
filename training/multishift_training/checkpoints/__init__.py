"""Published weights, as they are, into our networks."""

from multishift_training.checkpoints.loading import load
from multishift_training.checkpoints.report import LoadReport

__all__ = ['LoadReport', 'load']

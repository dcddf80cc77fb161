"""Data sets: from folders, or the sample drive's renderer, to batches of bytes.

A description (``config``) names a data set by ``kind``; ``open_images`` finds its files and maps
its labels to ours, once; ``Samples`` pairs, mixes, pastes and transforms; the loaders make
batches.
"""

from multishift_training.datasets.config import (
    ImageData,
    OutlierData,
    Size,
    Strict,
)
from multishift_training.datasets.images import LabelledImages, open_images
from multishift_training.datasets.loading import (
    ValidationSet,
    class_weights,
    collate,
    open_validation,
    training_loader,
    validation_loader,
)
from multishift_training.datasets.outliers import open_outliers
from multishift_training.datasets.sample_config import (
    TrainingData,
    TransformData,
    ValidationData,
)
from multishift_training.datasets.samples import Samples

__all__ = [
    'ImageData',
    'LabelledImages',
    'OutlierData',
    'Samples',
    'Size',
    'Strict',
    'TrainingData',
    'TransformData',
    'ValidationData',
    'ValidationSet',
    'class_weights',
    'collate',
    'open_images',
    'open_outliers',
    'open_validation',
    'training_loader',
    'validation_loader',
]

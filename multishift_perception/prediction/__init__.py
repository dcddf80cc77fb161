# SPDX-License-Identifier: Apache-2.0
"""What an engine says of images: of one in Python, or of whatever footage as files."""

from multishift_perception.prediction.frame import FramePrediction, Predictor, predict

__all__ = ['FramePrediction', 'Predictor', 'predict']

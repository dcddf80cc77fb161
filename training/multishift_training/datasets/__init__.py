# SPDX-License-Identifier: Apache-2.0
"""Data sets: from folders, or the sample drive's renderer, to batches of bytes.

A description (``kinds``) names a data set by ``kind``; ``open_images`` finds its files and maps
its labels to ours, once; ``Samples`` pairs, mixes, pastes and transforms; the loaders make
batches.

Importing it loads no torch: what is wrong in a description, or missing on the disk, is said before
that takes its time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from multishift_training.datasets.batch import Batch, Sample, collate
from multishift_training.datasets.config import (
    OutlierData,
    Size,
    Strict,
)
from multishift_training.datasets.images import LabelledImages, open_images
from multishift_training.datasets.kinds import ImageData
from multishift_training.datasets.training_data import (
    TrainingData,
    TransformData,
    ValidationData,
)

if TYPE_CHECKING:
    from multishift_training.datasets.loading import (
        ValidationSet,
        class_weights,
        open_validation,
        training_loader,
        validation_loader,
    )
    from multishift_training.datasets.samples import Samples

__all__ = [
    'Batch',
    'ImageData',
    'LabelledImages',
    'OutlierData',
    'Sample',
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
    'open_validation',
    'training_loader',
    'validation_loader',
]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for."""
    if name not in __all__:
        raise AttributeError(f'module {__name__} has no attribute {name}')
    module = 'samples' if name == 'Samples' else 'loading'
    return getattr(import_module(f'{__name__}.{module}'), name)

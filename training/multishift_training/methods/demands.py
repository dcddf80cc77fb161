# SPDX-License-Identifier: Apache-2.0
"""What several methods ask of data and networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import TrainingData

if TYPE_CHECKING:
    from multishift_training.models import SegmentationModel


def check_has_novel(method: str, data: TrainingData) -> None:
    """See that some training images may have novel pixels.

    Raises:
        MultishiftError: nothing is pasted, and no data set has labels of novel objects to learn.
    """
    if not any(domain.outliers or domain.images.learns_novel for domain in data.domains):
        raise MultishiftError(
            f'method {method} learns from novel objects, and the data have none: set data.outliers'
        )


def check_pixel_network(method: str, model: SegmentationModel, name: str) -> None:
    """See that a network classifies pixels, so that its logits are of a softmax.

    Raises:
        MultishiftError: it classifies masks.
    """
    from multishift_training.models.mask2former import Mask2Former

    if isinstance(model, Mask2Former):
        raise MultishiftError(
            f'method {method} takes the logits of pixels, and {name} classifies masks: choose a '
            'network that classifies pixels'
        )


def feature_width(model: SegmentationModel) -> int:
    """Return the channels of a network's feature; it is left in evaluation mode."""
    import torch

    with torch.no_grad():
        feature = model.eval()(torch.zeros(1, 3, 64, 64)).feature
    return int(feature.shape[1])

# SPDX-License-Identifier: Apache-2.0
"""What methods that learn from outliers, by a classifier of pixels, have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import TrainingData
from multishift_training.datasets.kinds import ImageSet

if TYPE_CHECKING:
    from torch import nn

    from multishift_training.models import SegmentationModel


def check_outliers(data: TrainingData, method: str) -> None:
    """See that training data may show novel objects.

    Args:
        data: the data.
        method: its name, for the message.

    Raises:
        MultishiftError: they show none.
    """
    for domain in data.domains:
        sets = [part for part in (domain.images, domain.partners) if isinstance(part, ImageSet)]
        if domain.outliers is not None or any(part.learns_novel for part in sets):
            return
    raise MultishiftError(
        f'method {method} learns from outliers, and the data show none: set data.outliers'
    )


def is_mask_network(model: SegmentationModel) -> bool:
    """Return whether a network classifies masks, and not pixels."""
    return hasattr(model, 'class_weight')


def pixel_classifier(model: SegmentationModel) -> nn.Conv2d | None:
    """Return the convolution that classifies pixels of the network's feature, if it has one."""
    from torch import nn

    found = getattr(model, 'classifier', None)
    return found if isinstance(found, nn.Conv2d) else None


def check_classifies_pixels(model: SegmentationModel, name: str, method: str) -> None:
    """See that a network classifies pixels by a convolution of its own.

    Args:
        model: the network.
        name: its name, for the message.
        method: that of the method.

    Raises:
        MultishiftError: it does not.
    """
    if pixel_classifier(model) is None:
        raise MultishiftError(
            f'method {method} is for networks whose `classifier` is a convolution over pixels, '
            f'which {name} is not: choose another network or method'
        )

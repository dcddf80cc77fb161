# SPDX-License-Identifier: Apache-2.0
"""What methods ask for and share: outliers to learn from, a classifier of pixels to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import TrainingData
from multishift_training.datasets.kinds import ImageSet

if TYPE_CHECKING:
    from torch import Tensor, nn

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


def read_classifier(model: SegmentationModel, score: Callable[[Tensor], Tensor]) -> None:
    """Make a network's score one of its own classifier's, for good.

    It takes the place of the uncertainty head: it is computed at the feature's rows and columns
    and enlarged by the network, as that is, and costs what that costs.

    Args:
        model: the network, which classifies pixels.
        score: takes logits ``[B,K,h,w]`` to scores ``[B,h,w]``; a function of a module, as
            networks are copied.
    """
    from multishift_training.models.heads import ClassifierHead

    model.uncertainty = ClassifierHead(model, score)

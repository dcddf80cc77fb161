# SPDX-License-Identifier: Apache-2.0
"""The losses of mask networks, which methods may take in place of the cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Strict, TrainingData
from multishift_training.losses.options import MaskWeights

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel

Weight = Annotated[float, Field(ge=0)]

_PUBLISHED = MaskWeights()


class MaskLosses(Strict):
    """Weights of a mask network's segmentation loss; as published by default.

    Attributes:
        classification: of the cross-entropy of the queries' classes.
        mask: of the cross-entropy of the masks' pixels.
        dice: of the masks' overlap (dice loss).
    """

    classification: Weight = _PUBLISHED.classification
    mask: Weight = _PUBLISHED.mask
    dice: Weight = _PUBLISHED.dice


class Weighting(Protocol):
    """A method with the keys ``class_weights`` and ``masks``, of which it takes one at most."""

    @property
    def class_weights(self) -> bool:
        """Weight the cross-entropy of classes by their rarity."""

    @property
    def masks(self) -> MaskLosses | None:
        """Take these losses in place of the cross-entropy."""


def check_weighting(method: Weighting) -> None:
    """See that a method weights one kind of losses.

    Raises:
        ValueError: if not.
    """
    if method.class_weights and method.masks:
        raise ValueError('class_weights are for the cross-entropy: leave them or masks out')


def check_masks(method: Weighting, model: SegmentationModel, name: str) -> None:
    """See that a network has masks where a method takes their losses.

    Raises:
        MultishiftError: if not.
    """
    if method.masks is not None and _of_masks(model) is None:
        raise MultishiftError(
            f'method.masks is for mask networks, which {name} is not: leave it out'
        )


def check_labels(method: Weighting, data: TrainingData) -> None:
    """See that labels are of one class each where a method takes losses of masks.

    Raises:
        MultishiftError: if not.
    """
    if method.masks is not None and (groups := data.groups):
        raise MultishiftError(
            'the masks of method.masks are of one class each, but some labels of the data stand '
            f'for several ({groups[0].name}, ...): leave masks out, or train on other images'
        )


def weights_of_classes(
    method: Weighting, model: SegmentationModel, rarity: Callable[[], Tensor]
) -> Tensor | None:
    """Return the weights ``[C]`` of the cross-entropy, or ``[C+1]``, with "no object", of masks.

    See ``Method.weights_of_classes``.
    """
    if method.class_weights:
        return rarity()
    return None if method.masks is None else _of_masks(model)


def _of_masks(model: SegmentationModel) -> Tensor | None:
    return getattr(model, 'class_weight', None)


def mask_parts(
    prediction: Prediction,
    labels: Tensor,
    config: MaskLosses,
    class_weights: Tensor | None,
    *,
    ratio: float | None,
) -> dict[str, Tensor]:
    """Return the weighted mask losses; each process divides by its own number of masks.

    Args:
        prediction: of a mask network.
        labels: ``int64 [B,H,W]``.
        config: the weights.
        class_weights: ``float32 [C+1]``; "no object" is last.
        ratio: share that is trusted of augmented images; see ``losses.masks.mask_losses``.
    """
    from multishift_training.losses.masks import mask_losses
    from multishift_training.losses.noise_aware import health

    assert prediction.masks is not None and class_weights is not None
    weights = MaskWeights(**config.model_dump())
    terms = mask_losses(
        prediction.masks, labels, class_weight=class_weights, ratio=ratio, weights=weights
    )
    of_classes, of_masks = (
        health(x).sum() for x in (prediction.masks.class_logits, prediction.masks.mask_logits)
    )
    return {
        'mask_classification': weights.classification * terms.classification + of_classes,
        'mask': weights.mask * terms.mask + of_masks,
        'mask_dice': weights.dice * terms.dice,
    }

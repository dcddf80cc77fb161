# SPDX-License-Identifier: Apache-2.0
"""The losses of mask networks, which methods may take in place of the cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Strict, TrainingData
from multishift_training.datasets.config import Weight
from multishift_training.losses.options import MaskWeights
from multishift_training.methods.method import Method

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel


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


class SegmentingMethod(Method):
    """A method that learns the classes: by the cross-entropy, or by a mask network's own losses.

    What derives from it has the keys ``class_weights``, which weights the cross-entropy of classes
    by their rarity, and ``masks``, the losses to take in its place; one of them at most.
    """

    if TYPE_CHECKING:  # keys of what derives from it, at their places among its others
        class_weights: bool
        masks: MaskLosses | None

    @model_validator(mode='after')
    def _one_weighting(self) -> Self:
        if self.class_weights and self.masks:
            raise ValueError('class_weights are for the cross-entropy: leave them or masks out')
        return self

    @property
    def takes_masks(self) -> bool:
        """See ``Method``."""
        return self.masks is not None

    def check_data(self, data: TrainingData) -> None:
        """See that labels are of one class each where masks are learned."""
        if self.masks is not None and (groups := data.groups):
            raise MultishiftError(
                'the masks of method.masks are of one class each, but some labels of the data '
                f'stand for several ({groups[0].name}, ...): leave masks out, or train on other '
                'images'
            )

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that the network has masks where their losses are taken."""
        if self.masks is not None and not is_mask_network(model):
            raise MultishiftError(
                f'method.masks is for mask networks, which {name} is not: leave it out'
            )

    def weights_of_classes(
        self, model: SegmentationModel, rarity: Callable[[], Tensor]
    ) -> Tensor | None:
        """Return ``[C]`` for the cross-entropy, or ``[C+1]``, with "no object", for masks."""
        if self.class_weights:
            return rarity()
        return None if self.masks is None else _of_masks(model)


def is_mask_network(model: SegmentationModel) -> bool:
    """Return whether a network classifies masks, and not pixels."""
    return _of_masks(model) is not None


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

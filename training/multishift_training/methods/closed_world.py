# SPDX-License-Identifier: Apache-2.0
"""Closed world: a segmentation of the known classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from multishift_perception.classes import NOVEL
from multishift_training.datasets import Batch
from multishift_training.methods.masks import MaskLosses, SegmentingMethod, mask_parts
from multishift_training.methods.method import Context

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction


class ClosedWorld(SegmentingMethod):
    """Cross-entropy over the known classes.

    Attributes:
        class_weights: weight classes by their rarity.
        masks: of mask networks: their losses in place of the cross-entropy.
    """

    kind: Literal['closed_world']
    class_weights: bool = False
    masks: MaskLosses | None = None

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the mean cross-entropy over pixels of known classes, or mask losses.

        The mean is 0 where there are none. All images of a batch are treated alike, and all
        labels trusted.
        """
        if self.masks is not None:
            weights = context.class_weights
            return mask_parts(prediction, batch.labels, self.masks, weights, ratio=None)
        return {'cross_entropy': mean_cross_entropy(prediction, batch, context)}


def mean_cross_entropy(prediction: Prediction, batch: Batch, context: Context) -> Tensor:
    """Return the mean cross-entropy over the known pixels of the whole batch; 0 without any."""
    from multishift_training.losses.noise_aware import checked_cross_entropy

    losses = checked_cross_entropy(
        prediction.logits, batch.labels, context.class_weights, context.groups
    )
    known = (context.gather(batch.labels) < NOVEL).sum()
    return context.gather(losses).sum() / known.clamp(min=1)

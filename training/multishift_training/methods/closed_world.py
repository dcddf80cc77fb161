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
        from multishift_training.losses.noise_aware import checked_cross_entropy

        weights, gather = context.class_weights, context.gather
        if self.masks is not None:
            return mask_parts(prediction, batch.labels, self.masks, weights, ratio=None)
        losses = gather(
            checked_cross_entropy(prediction.logits, batch.labels, weights, context.groups)
        )
        known = (gather(batch.labels) < NOVEL).sum()
        return {'cross_entropy': losses.sum() / known.clamp(min=1)}

# SPDX-License-Identifier: Apache-2.0
"""Closed world: a segmentation of the known classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from multishift_training.datasets import Batch, TrainingData
from multishift_training.methods.masks import (
    MaskLosses,
    check_labels,
    check_masks,
    check_weighting,
    mask_parts,
    weights_of_classes,
)
from multishift_training.methods.method import Context, Method

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel


class ClosedWorld(Method):
    """Cross-entropy over the known classes.

    Attributes:
        class_weights: weight classes by their rarity.
        masks: of mask networks: their losses in place of the cross-entropy.
    """

    kind: Literal['closed_world']
    class_weights: bool = False
    masks: MaskLosses | None = None

    @model_validator(mode='after')
    def _one_weighting(self) -> ClosedWorld:
        check_weighting(self)
        return self

    @property
    def takes_masks(self) -> bool:
        """See ``Method``."""
        return self.masks is not None

    def check_data(self, data: TrainingData) -> None:
        """See ``Method``."""
        check_labels(self, data)

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See ``Method``."""
        check_masks(self, model, name)

    def weights_of_classes(
        self, model: SegmentationModel, rarity: Callable[[], Tensor]
    ) -> Tensor | None:
        """See ``Method``."""
        return weights_of_classes(self, model, rarity)

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the mean cross-entropy over pixels of known classes, or mask losses.

        The mean is 0 where there are none. All images of a batch are treated alike, and all
        labels trusted.
        """
        from multishift_perception.classes import NOVEL
        from multishift_training.losses.noise_aware import checked_cross_entropy

        weights, gather = context.class_weights, context.gather
        if self.masks is not None:
            return mask_parts(prediction, batch.labels, self.masks, weights, ratio=None)
        losses = gather(
            checked_cross_entropy(prediction.logits, batch.labels, weights, context.groups)
        )
        known = (gather(batch.labels) < NOVEL).sum()
        return {'cross_entropy': losses.sum() / known.clamp(min=1)}

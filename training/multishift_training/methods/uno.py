# SPDX-License-Identifier: Apache-2.0
"""UNO: uncertainty and negative objectness together (Delić et al., BMVC 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, TrainingData
from multishift_training.datasets.config import Weight
from multishift_training.methods.masks import (
    MaskLosses,
    SegmentingMethod,
    is_mask_network,
    mask_parts,
)
from multishift_training.methods.method import Context
from multishift_training.methods.outliers import (
    check_classifies_pixels,
    check_outliers,
    read_classifier,
)

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel


class Uno(SegmentingMethod):
    """One more class, of what is negative: learned from outliers, and never a label.

    The score is the probability of that class less the largest one of a known class; it takes the
    place of the uncertainty head.

    Attributes:
        negative: weight of outliers in the cross-entropy, or of the negative class in the masks'
            classification.
        class_weights: weight classes by their rarity; not in the paper.
        masks: of mask networks, and needed there: their losses in place of the cross-entropy.
    """

    kind: Literal['uno']
    negative: Weight = 1.0
    class_weights: bool = False
    masks: MaskLosses | None = None

    def check_data(self, data: TrainingData) -> None:
        """See that there are outliers, and labels of one class each for masks."""
        check_outliers(data, self.kind)
        super().check_data(data)

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that the losses are those of the network."""
        super().check_network(model, name)
        if not is_mask_network(model):
            check_classifies_pixels(model, name, self.kind)
        elif self.masks is None:
            raise MultishiftError(
                f'method {self.kind} learns the masks of {name} by their own losses: set '
                'method.masks, such as `masks: {}`'
            )

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Give the classifier the negative class, and the network the score of both."""
        from multishift_training.models import negative_class

        if is_mask_network(model):
            negative_class.add_negative_to_masks(model, self.negative)
        else:
            negative_class.add_negative_to_pixels(model)
            read_classifier(model, negative_class.uno_score)
        return model

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the cross-entropy over known and negative, or mask losses.

        The mean is over pixels that are known or outliers, 0 where there are none.
        """
        if self.masks is not None:
            negative = prediction.logits.shape[1]
            labels = batch.labels.masked_fill(batch.labels == NOVEL, negative)
            return mask_parts(prediction, labels, self.masks, context.class_weights, ratio=None)
        return self._cross_entropy(prediction, batch, context)

    def _cross_entropy(
        self, prediction: Prediction, batch: Batch, context: Context
    ) -> dict[str, Tensor]:
        import torch
        from torch.nn import functional as F

        from multishift_training.losses.noise_aware import checked_cross_entropy, health

        assert prediction.auxiliary is not None  # `adapt` saw to it
        gather, labels, logits = context.gather, batch.labels, prediction.logits
        negative = prediction.auxiliary['negative']
        # The cross-entropy over K+1 classes is that among the first K, which knows of groups of
        # them, and what the last takes of the probability, by its log odds.
        lead = negative - logits.logsumexp(1)
        weights = context.class_weights
        known = labels < NOVEL
        own = lead.new_ones(()) if weights is None else weights[labels.masked_fill(~known, 0)]
        among = checked_cross_entropy(logits, labels, weights, context.groups)
        of_known = gather(among + torch.where(known, own * F.softplus(lead), 0))
        of_novel = torch.where(labels == NOVEL, F.softplus(-lead), 0)
        of_novel = gather(of_novel + health(negative)[:, None, None])
        labels = gather(labels)
        count = ((labels < NOVEL) | (labels == NOVEL)).sum().clamp(min=1)
        return {
            'cross_entropy': of_known.sum() / count,
            'negative': self.negative * of_novel.sum() / count,
        }

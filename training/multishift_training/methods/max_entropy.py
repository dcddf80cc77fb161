# SPDX-License-Identifier: Apache-2.0
"""Entropy maximization (Chan et al., ICCV 2021): what is novel belongs to no class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from multishift_perception.classes import NOVEL
from multishift_training.datasets import Batch, TrainingData
from multishift_training.losses.options import MeanOver
from multishift_training.methods.method import Context, Method
from multishift_training.methods.outliers import (
    check_classifies_pixels,
    check_outliers,
    read_classifier,
)

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel


class MaxEntropy(Method):
    """Cross-entropy of known pixels, and a softmax as flat as may be at outliers.

    The score is the softmax entropy of the classifier, which takes the place of the uncertainty
    head.

    Attributes:
        weight: of the outliers; known pixels have the rest of 1.
        mean_over: what both sums are divided by: ``all`` pixels of the batch, void ones too, as in
            the released code (but for its constant factor, one in so many classes), or the
            ``valid`` ones of each, means as the paper writes them.
        class_weights: weight the cross-entropy of classes by their rarity; not in the paper.
    """

    kind: Literal['max_entropy']
    weight: Annotated[float, Field(gt=0, lt=1)] = 0.9
    mean_over: MeanOver = 'all'
    class_weights: bool = False

    def check_data(self, data: TrainingData) -> None:
        """See that there are outliers."""
        check_outliers(data, self.kind)

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that the network classifies pixels, be it by the clusters of ``spc``."""
        from multishift_training.models.spc import Clusters

        if not isinstance(getattr(model, 'classifier', None), Clusters):
            check_classifies_pixels(model, name, self.kind)

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Make the score the classifier's entropy."""
        from multishift_training.models.heads import softmax_entropy

        read_classifier(model, softmax_entropy)
        return model

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return both parts of the paper's Eq. 3, weighted; each is 0 where it has no pixel."""
        import torch

        from multishift_training.losses.noise_aware import checked_cross_entropy

        logits, gather = prediction.logits, context.gather
        weights, groups = context.class_weights, context.groups
        labels = gather(batch.labels)
        known = gather(checked_cross_entropy(logits, batch.labels, weights, groups))
        flat = -gather(logits.log_softmax(1).mean(1))
        is_novel = labels == NOVEL
        counts = [(labels < NOVEL).sum(), is_novel.sum()]
        if self.mean_over == 'all':
            counts = [torch.full_like(count, labels.numel()) for count in counts]
        sums = (1 - self.weight) * known.sum(), self.weight * torch.where(is_novel, flat, 0).sum()
        return {
            'cross_entropy': sums[0] / counts[0].clamp(min=1),
            'flat_outliers': sums[1] / counts[1].clamp(min=1),
        }

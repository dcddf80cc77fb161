# SPDX-License-Identifier: Apache-2.0
"""UNO: uncertainty and negative objectness together (Delić et al., BMVC 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, TrainingData
from multishift_training.methods.masks import (
    MaskLosses,
    SegmentingMethod,
    Weight,
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
        if is_mask_network(model):
            _adapt_masks(model, self.negative)
        else:
            classifier: Any = model.classifier
            model.classifier = _with_negative(classifier, classifier.out_channels)
            read_classifier(model, uno_score)
        model.register_forward_hook(_keep_known)
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


def uno_score(logits: Tensor) -> Tensor:
    """Return ``p_negative - max_c p_c`` ``[B,h,w]``, from -1 to 1.

    Args:
        logits: ``[B,K+1,h,w]``; the negative class is last.
    """
    probabilities = logits.softmax(1)
    return probabilities[:, -1] - probabilities[:, :-1].amax(1)


def weigh_queries(logits: Tensor) -> Tensor:
    """Return the same of each query, ``[B,Q,1]``.

    Args:
        logits: ``[B,Q,K+2]``; the negative class is the last but one, "no object" the last.
    """
    probabilities = logits.softmax(-1)
    return probabilities[..., -2:-1] - probabilities[..., :-2].amax(-1, keepdim=True)


def _adapt_masks(model: Any, negative: float) -> None:
    import torch

    from multishift_training.models.heads import ClassifierHead, MaskScore

    weights = model.class_weight
    more = weights.new_full((1,), negative)
    known = len(weights) - 1  # the last is "no object"
    model.classifier = _with_negative(model.classifier, known)
    model.class_weight = torch.cat([weights[:known], more, weights[known:]])
    model.uncertainty = ClassifierHead(model)
    model.score = MaskScore(weigh_queries, _only)


def _only(maps: Tensor) -> Tensor:
    return maps[:, 0]


def _with_negative(classifier: Any, place: int) -> Any:
    """Return a classifier with a class more at a place, whose weights start at 0, as released."""
    import torch
    from torch import nn

    bias = classifier.bias is not None
    wider = (
        nn.Linear(classifier.in_features, classifier.out_features + 1, bias)
        if isinstance(classifier, nn.Linear)
        else nn.Conv2d(classifier.in_channels, classifier.out_channels + 1, 1, bias=bias)
    )
    wider = wider.to(classifier.weight)
    with torch.no_grad():
        for new, old in zip(wider.parameters(), classifier.parameters(), strict=True):
            zero = torch.zeros_like(old[:1])
            new.copy_(torch.cat([old[:place], zero, old[place:]]))
    return wider


def _keep_known(model: Any, inputs: Any, prediction: Prediction) -> Prediction:
    """Keep the negative class out of the labels; of pixel networks, losses take its logit."""
    logits = prediction.logits
    auxiliary = {**(prediction.auxiliary or {}), 'negative': logits[:, -1]}
    coarse = prediction.coarse_logits
    return prediction._replace(
        logits=logits[:, :-1],
        auxiliary=auxiliary,
        coarse_logits=None if coarse is None else coarse[:, :-1],
    )

# SPDX-License-Identifier: Apache-2.0
"""DenseHybrid (Grcić et al., ECCV 2022): a discriminator and a likelihood, judged together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from multishift_training.datasets import Batch, TrainingData
from multishift_training.datasets.config import Weight
from multishift_training.methods.method import Context, Method
from multishift_training.methods.outliers import (
    check_classifies_pixels,
    check_outliers,
    pixel_classifier,
)

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel


class DenseHybrid(Method):
    """Cross-entropy, a small likelihood of novel pixels, and a discriminator of them.

    Attributes:
        likelihood: weight of the likelihood of novel pixels; the released code's beta.
        discriminator: weight of the discriminator's cross-entropy, which the released code has at
            10 beta.
        norm: put batch norm and ReLU before the discriminator's 1x1 convolution, as released.
        score: the discriminator's logarithm less that of the likelihood (``hybrid``), or one of
            them alone, as the paper's ablation has it.
        class_weights: weight the cross-entropy of classes by their rarity; not in the paper.
    """

    kind: Literal['densehybrid']
    likelihood: Weight = 0.03
    discriminator: Weight = 0.3
    norm: bool = True
    score: Literal['hybrid', 'likelihood', 'discriminator'] = 'hybrid'
    class_weights: bool = False

    def check_data(self, data: TrainingData) -> None:
        """See that there is something novel to learn from."""
        check_outliers(data, self.kind)

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that logits are those of a softmax: their evidence is the likelihood."""
        check_classifies_pixels(model, name, self.kind)

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Give the network the discriminator, and its score."""
        from multishift_training.models.densehybrid import add_discriminator

        classifier = pixel_classifier(model)
        assert classifier is not None  # `check_network` saw to it
        add_discriminator(model, classifier.in_channels, norm=self.norm, score=self.score)
        return model

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the three losses over the whole batch; members of a pair are treated alike."""
        from multishift_training.losses.densehybrid import hybrid_terms
        from multishift_training.losses.noise_aware import checked_cross_entropy, health

        assert prediction.auxiliary is not None  # `adapt` saw to it
        logits, gather = prediction.logits, context.gather
        discriminator = prediction.auxiliary['discriminator'][:, 0]
        terms = hybrid_terms(
            gather(
                checked_cross_entropy(logits, batch.labels, context.class_weights, context.groups)
            ),
            gather(logits.logsumexp(1)),
            gather(logits.mean(1)),
            gather(discriminator),
            gather(batch.labels),
        )
        return {
            'cross_entropy': terms.cross_entropy,
            'likelihood': self.likelihood * terms.likelihood,
            'discriminator': self.discriminator * terms.discriminator
            + gather(health(discriminator)).sum(),
        }

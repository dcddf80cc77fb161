# SPDX-License-Identifier: Apache-2.0
"""What DenseHybrid (Grcić et al., ECCV 2022) adds to a network that classifies pixels."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models.precision import in_full
from multishift_training.models.prediction import Prediction, SegmentationModel

HybridScore = Literal['hybrid', 'likelihood', 'discriminator']


class Discriminator(nn.Module):
    """Tells pixels of the training data from others, by the feature that the classifier reads.

    Attributes:
        score: what the network's score is then.
    """

    def __init__(self, channels: int, *, norm: bool, score: HybridScore) -> None:
        """Make a 1x1 convolution.

        Args:
            channels: of the feature.
            norm: put batch norm and ReLU before it.
            score: what the network's score is.
        """
        super().__init__()
        before = [nn.BatchNorm2d(channels), nn.ReLU()] if norm else []
        self.layers = nn.Sequential(*before, nn.Conv2d(channels, 1, 1))
        self.score = score

    def forward(self, feature: Tensor) -> Tensor:
        """Return the logit that a pixel is of no training data, ``[B,1,h,w]``."""
        logit: Tensor = self.layers(feature)
        return logit


def add_discriminator(
    model: SegmentationModel, channels: int, *, norm: bool, score: HybridScore
) -> None:
    """Give a network the part ``discriminator`` and the hybrid score.

    Its predictions then have ``discriminator``, logits ``[B,1,H,W]``, as auxiliary.
    """
    model.add_module('discriminator', Discriminator(channels, norm=norm, score=score))
    model.register_forward_hook(_rescore)


def hybrid_score(logits: Tensor, discriminator: Tensor, kind: HybridScore) -> Tensor:
    """Return ``log p(d_out|x) - log p^(x)`` (section 3.3 of the paper), or one of its terms.

    Args:
        logits: of the classes, ``[B,C,H,W]``.
        discriminator: logit that a pixel is of no training data, ``[B,1,H,W]``.
        kind: which.

    Returns:
        ``[B,H,W]``, larger is more anomalous.
    """
    outside = F.logsigmoid(discriminator[:, 0])
    evidence = logits.logsumexp(1)
    match kind:
        case 'hybrid':
            return outside - evidence
        case 'likelihood':
            return -evidence
        case 'discriminator':
            return outside


def _rescore(model: Any, _: Any, prediction: Prediction) -> Prediction:
    logits = prediction.logits
    size = (logits.shape[2], logits.shape[3])
    logit = model.enlarge(model.discriminator(prediction.feature), size)
    score = hybrid_score(in_full(logits), in_full(logit), model.discriminator.score)
    return prediction._replace(score=score).with_auxiliary({'discriminator': logit})

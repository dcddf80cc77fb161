# SPDX-License-Identifier: Apache-2.0
"""The losses of DenseHybrid (Grcić et al., ECCV 2022): classes, likelihood, data discriminator."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID


class HybridTerms(NamedTuple):
    """The three losses, scalars, not weighted."""

    cross_entropy: Tensor
    likelihood: Tensor
    discriminator: Tensor


def hybrid_terms(
    cross_entropy: Tensor,
    evidence: Tensor,
    mean_logit: Tensor,
    discriminator: Tensor,
    labels: Tensor,
) -> HybridTerms:
    """Return the losses over all pixels; each is 0 where it has none.

    The likelihood of what is novel is made small: the mean of its evidence above the mean logit
    of all pixels, which has no gradient.

    Args:
        cross_entropy: of the classes, ``[B,H,W]``; 0 where none is known.
        evidence: ``logsumexp_c s_c``, the logarithm of the unnormalised likelihood, ``[B,H,W]``.
        mean_logit: mean of a pixel's logits, ``[B,H,W]``.
        discriminator: logit that a pixel is of no training data, ``[B,H,W]``.
        labels: ``int64 [B,H,W]``.
    """
    known, novel = labels < NOVEL, labels == NOVEL
    counted = labels != VOID
    excess = evidence - mean_logit.detach().mean()
    judged = F.binary_cross_entropy_with_logits(
        discriminator, novel.to(discriminator), reduction='none'
    )
    return HybridTerms(
        cross_entropy.sum() / known.sum().clamp(min=1),
        (excess * novel).sum() / novel.sum().clamp(min=1),
        (judged * counted).sum() / counted.sum().clamp(min=1),
    )

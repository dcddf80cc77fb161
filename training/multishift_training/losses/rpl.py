# SPDX-License-Identifier: Apache-2.0
"""The losses of residual pattern learning (Liu et al., ICCV 2023)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID
from multishift_training.models.precision import in_full

_LEAST_PROBABILITY = 1e-7


class ResidualTerms(NamedTuple):
    """Of each pixel, ``[B,H,W]``, and 0 where it does not count.

    Attributes:
        agreement: cross-entropy of the residual path by the class that the untouched one says;
            known pixels.
        disparity: square of the difference of the entropies of both paths; known pixels.
        energy: positive part of the residual path's evidence; novel pixels.
    """

    agreement: Tensor
    disparity: Tensor
    energy: Tensor


def residual_terms(logits: Tensor, untouched: Tensor, labels: Tensor) -> ResidualTerms:
    """Return the energy-driven loss's terms (section 3.2 of the paper, as released).

    Args:
        logits: of the residual path, ``[B,C,H,W]``.
        untouched: of the frozen path; no gradient passes.
        labels: ``int64 [B,H,W]``; only whether a pixel is known, novel or void is read.
    """
    logits, untouched = in_full(logits), in_full(untouched.detach())
    known, novel = labels < NOVEL, labels == NOVEL
    agreement = F.cross_entropy(logits, untouched.argmax(1), reduction='none')
    disparity = (_entropy(logits) - _entropy(untouched)).square()
    return ResidualTerms(agreement * known, disparity * known, F.relu(logits.logsumexp(1)) * novel)


def _entropy(logits: Tensor) -> Tensor:
    probabilities = logits.softmax(1).clamp(min=_LEAST_PROBABILITY)
    return -(probabilities * probabilities.log()).sum(1)


def context_contrast(
    own: Tensor,
    own_labels: Tensor,
    other: Tensor,
    other_labels: Tensor,
    *,
    temperature: float,
    samples: int,
) -> Tensor:
    """Return the context-robust contrastive loss (CoroCL, section 3.3 of the paper).

    Of novel and of known pixels, equally many are drawn in either context, from torch's global
    generator. Those of the own one are anchors; in both, what is as novel as an anchor is near.
    Where one of the four sets is empty, the loss is 0.

    Args:
        own: embeddings of images of the scene's own context, ``[B,D,h,w]``.
        own_labels: ``int64 [B,h,w]``.
        other: those of another context, ``[B',D,h',w']``.
        other_labels: ``int64 [B',h',w']``.
        temperature: divisor of the cosine.
        samples: most pixels of a set.
    """
    sets = [
        points[mask]
        for points, labels in (
            (F.normalize(own.movedim(1, -1), dim=-1), own_labels),
            (F.normalize(other.movedim(1, -1), dim=-1), other_labels),
        )
        for mask in (labels == NOVEL, (labels != NOVEL) & (labels != VOID))
    ]
    count = min(samples, *map(len, sets))
    if not count:
        return (own.sum() + other.sum()) * 0
    drawn = [points[torch.randperm(len(points))[:count].to(points.device)] for points in sets]
    is_novel = torch.tensor([True, False, True, False], device=own.device)
    return info_nce(torch.cat(drawn), is_novel.repeat_interleave(count), 2 * count, temperature)


def info_nce(points: Tensor, groups: Tensor, anchors: int, temperature: float) -> Tensor:
    """Return the mean over anchors of ``-log(e_p / (e_p + sum_n e_n))``, over their positives p.

    Args:
        points: of length 1, ``[N,D]``; the first ones are the anchors.
        groups: ``[N]``: positives of an anchor are others of its group, negatives those of others.
        anchors: how many; each has a positive.
        temperature: ``e = exp(cosine / temperature)``.
    """
    similar = points[:anchors] @ points.T / temperature
    alike = groups[:anchors, None] == groups
    negatives = similar.masked_fill(alike, -torch.inf).logsumexp(1, keepdim=True)
    itself = torch.eye(anchors, len(points), dtype=torch.bool, device=points.device)
    positive = alike & ~itself
    losses = torch.logaddexp(similar, negatives) - similar
    return ((losses * positive).sum(1) / positive.sum(1)).mean()

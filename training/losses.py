"""Training losses on full-resolution logits and scores."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over pixels of known classes; 0 where there are none.

    Args:
        logits: ``float32 [B,C,H,W]``.
        labels: ``int64 [B,H,W]``; ``NOVEL`` and ``VOID`` do not count.
        weights: weight of each class, ``float32 [C]``.
    """
    known = labels.masked_fill(labels == NOVEL, VOID)
    total = F.cross_entropy(logits, known, weights, ignore_index=VOID, reduction='sum')
    return total / (known != VOID).sum().clamp(min=1)


def relative_contrastive(
    score: Tensor, labels: Tensor, *, margin: float, generator: torch.Generator
) -> Tensor:
    """Return the relative contrastive loss: novel pixels score above known ones by a margin.

    ``mean relu(u_known + margin - u_novel)`` over random one-to-one pairs, as the released
    MultiShiftSeg code samples Eq. 4 of the paper. 0 where a side is empty.

    Args:
        score: ``float32 [B,H,W]``, larger is more anomalous.
        labels: ``int64 [B,H,W]``.
        margin: wanted distance, in units of the score.
        generator: source of the pairing.
    """
    novel = score[labels == NOVEL]
    known = score[(labels != NOVEL) & (labels != VOID)]
    if novel.numel() == 0 or known.numel() == 0:
        return score.sum() * 0
    # Each known pixel meets some novel pixel: known ones are many, and the rare high-scoring
    # ones among them decide the false alarms.
    partner = torch.randint(novel.numel(), (known.numel(),), generator=generator)
    return F.relu(known + margin - novel[partner]).mean()

# SPDX-License-Identifier: Apache-2.0
"""What a memory of classes is written with, and how far apart its items are (Pin the Memory)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL


class ClassSums(NamedTuple):
    """Sums of embeddings by class, of each image.

    Attributes:
        sums: ``[B,K,D]``.
        counts: shares of pixels, ``[B,K]``.
    """

    sums: Tensor
    counts: Tensor


def class_sums(embeddings: Tensor, labels: Tensor, classes: int) -> ClassSums:
    """Return the sums of the embeddings of each class, by the shares that labels have of a pixel.

    Labels are as maps of each class, made smaller bilinearly, corners on corners.

    Args:
        embeddings: ``[B,D,h,w]``.
        labels: ``int64 [B,H,W]``; what is none of the ``classes`` counts nowhere.
        classes: K.
    """
    known = labels < min(classes, NOVEL)
    # A row more, for what is left out.
    maps = F.one_hot(torch.where(known, labels, classes), classes + 1)[..., :classes]
    maps = maps.movedim(-1, 1).to(embeddings)
    shares = F.interpolate(
        maps, embeddings.shape[2:], mode='bilinear', align_corners=True
    ).flatten(2)
    return ClassSums(shares @ embeddings.flatten(2).mT, shares.sum(2))


def written(items: Tensor, sums: ClassSums, momentum: Tensor) -> Tensor:
    """Return the items ``[K,D]`` after writing, of length 1; those of no pixel stay to the bit.

    Args:
        items: unit vectors ``[K,D]``.
        sums: of the whole batch.
        momentum: share of itself that each item keeps, ``[K]``.
    """
    count = sums.counts.sum(0)[:, None]
    means = sums.sums.sum(0) / torch.where(count > 0, count, 1)
    kept = momentum[:, None]
    moved = F.normalize(kept * items + (1 - kept) * means, dim=1)
    return torch.where(count > 0, moved, items)


def divergence(items: Tensor) -> Tensor:
    """Return the mean positive cosine between two items ``[K,D]``, unit vectors; a scalar."""
    cosines = (items @ items.T).clamp(min=0)
    others = cosines.sum() - cosines.diagonal().sum()
    return others / max(len(items) * (len(items) - 1), 1)

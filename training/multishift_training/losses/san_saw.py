# SPDX-License-Identifier: Apache-2.0
"""Whitening of the channels that tell classes apart (SAW, Peng et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multishift_training.models.precision import in_full

_RELAXED = 2  # as released: half of the pairs of classes, rounded down, are free


def class_whitening(x: Tensor, weights: Tensor, classes: Sequence[int]) -> Tensor:
    """Return how much channels that matter to different classes vary together, of each image.

    The k-th group has, of each class, the channel of the k-th largest weight, times the sigmoid
    of that weight. Of a group it is the sum of the absolute covariances of two classes each, less
    a margin, over their number, 0 at least; and of an image the sum over groups.

    Args:
        x: ``[B,C,h,w]``.
        weights: of a classifier of x, ``[K,C]``; without gradient.
        classes: which of K, S of them.

    Returns:
        ``[B]``.
    """
    count = len(classes)
    strength, order = weights.detach().abs()[list(classes)].sort(1, descending=True)
    groups = x.shape[1] // count
    strength, order = strength[:, :groups], order[:, :groups]
    points = in_full(x).flatten(2)
    chosen = points[:, order.flatten()].view(len(x), count, groups, -1)
    chosen = chosen * strength.sigmoid().to(chosen)[:, :, None]
    covariance = torch.einsum('bsgn,btgn->bgst', chosen, chosen) / max(points.shape[2] - 1, 1)
    pairs = count * (count - 1) // 2
    together = covariance.triu(1).abs().sum((2, 3)) - pairs // _RELAXED
    return (together / max(pairs, 1)).clamp(min=0).sum(1)

# SPDX-License-Identifier: Apache-2.0
"""The noise-aware segmentation loss of MultiShiftSeg: labels of generated images are not trusted.

Where the generator painted something else than the label says, the loss is large: the largest
losses of the augmented half do not count.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses.contrastive import halves
from multishift_training.losses.options import MeanOver
from multishift_training.models.precision import in_full


class SegmentationTerms(NamedTuple):
    """Cross-entropy of the originals and of the augmented images, scalars."""

    original: Tensor
    augmented: Tensor


def pixel_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of each pixel ``[B,H,W]``; zero where no class is known.

    Where the label is a group of classes, any of which the pixel may be of, it is
    ``-log sum_{c in group} softmax_c``: the likelihood of what the label says.

    Args:
        logits: ``[B,C,H,W]``.
        labels: ``int64 [B,H,W]``; ``NOVEL`` and ``VOID`` do not count.
        weights: of the classes, ``float32 [C]``; with groups, of classes and groups ``[C+G]``.
        groups: classes that the labels ``C..C+G-1`` stand for, ``bool [G,C]``; each has some.
    """
    known = labels.masked_fill(labels == NOVEL, VOID)
    if groups is not None:
        return _group_cross_entropy(in_full(logits), known, weights, groups)
    return F.cross_entropy(in_full(logits), known, weights, ignore_index=VOID, reduction='none')


def _group_cross_entropy(
    logits: Tensor, known: Tensor, weights: Tensor | None, groups: Tensor
) -> Tensor:
    """Return the cross-entropy where labels are classes, groups of them or ``VOID``."""
    classes = torch.eye(groups.shape[1], dtype=torch.bool, device=groups.device)
    possible = torch.cat([classes, groups])
    label = known.masked_fill(known == VOID, 0)
    # Of all pixels at once: to pick those of groups, the host would wait for their number.
    ruled_out = ~possible[label].movedim(-1, 1)
    likelihood = logits.log_softmax(1).masked_fill(ruled_out, -math.inf).logsumexp(1)
    losses = -likelihood if weights is None else -likelihood * weights[label]
    return torch.where(known == VOID, 0, losses)


def checked_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Return `pixel_cross_entropy`, NaN in images with a logit that is not finite."""
    losses = pixel_cross_entropy(logits, labels, weights, groups)
    return losses + health(logits)[:, None, None]


def health(outputs: Tensor) -> Tensor:
    """Return 0 for each image ``[B]``, NaN where one of its outputs ``[B,...]`` is not finite.

    Pixels that a loss leaves out do not show in it, but in the gradients: none times NaN is NaN.
    """
    return outputs.detach().sum(tuple(range(1, outputs.ndim))) * 0


def noise_aware_mean(
    losses: Tensor,
    labels: Tensor,
    *,
    ratio: float,
    mean_over: MeanOver,
    class_weights: Tensor | None = None,
) -> SegmentationTerms:
    """Return the mean losses of both halves of ``[originals; augmented]``.

    The augmented half's is that of the ``ratio`` of its known pixels with the smallest losses,
    chosen over all its images at once (the paper's Eq. 5, and the released code's normalisation).
    Halves without a known pixel give zero.

    Args:
        losses: of the pixels, by `pixel_cross_entropy` without weights, ``[2B,H,W]``.
        labels: ``int64 [2B,H,W]``; ``NOVEL`` and ``VOID`` do not count.
        ratio: share of the known pixels that is trusted, in (0, 1]; at 1 the augmented half is
            treated as the originals are.
        mean_over: where nothing is selected, whether the denominator is all pixels, as in the
            released code, or only those of known classes.
        class_weights: what the losses of each class's pixels are multiplied with once the trusted
            ones are chosen, ``float32 [C]``: else rare classes would be trusted least. With
            groups ``[C+G]``.

    Raises:
        ValueError: ``ratio`` is not in (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ValueError(f'ratio is {ratio}, not in (0, 1]')
    valid = labels < NOVEL
    weighted = losses
    if class_weights is not None:
        weighted = losses * class_weights[labels.masked_fill(~valid, 0)]
    original, augmented = halves(weighted)
    valid_original, valid_augmented = halves(valid)
    return SegmentationTerms(
        _mean(original, valid_original, mean_over),
        _mean(augmented, valid_augmented, mean_over)
        if ratio == 1
        else _small_losses(halves(losses)[1], augmented, valid_augmented, ratio),
    )


def _mean(losses: Tensor, valid: Tensor, mean_over: MeanOver) -> Tensor:
    """Return the mean of the losses, which are zero where not valid."""
    if mean_over == 'all':
        return losses.mean()
    return losses.sum() / valid.sum().clamp(min=1)


def _small_losses(losses: Tensor, weighted: Tensor, valid: Tensor, ratio: float) -> Tensor:
    """Return the mean of ``weighted`` where the valid losses are smallest; 0 without any."""
    trusted = trusted_pixels(losses, valid, ratio)
    return torch.where(trusted, weighted, 0).sum() / trusted.sum().clamp(min=1)


def trusted_pixels(losses: Tensor, valid: Tensor, ratio: float) -> Tensor:
    """Return whose labels are trusted, those of the smallest valid losses: ``bool [B,H,W]``.

    Args:
        losses: of the pixels of augmented images, ``[B,H,W]``.
        valid: where a class is known, ``bool [B,H,W]``.
        ratio: share of these that is trusted.
    """
    # In float32, as released: the product may fall to the other side of a whole number.
    kept = (ratio * valid.sum().to(torch.float32)).to(torch.int64)
    ranked = losses.detach().masked_fill(~valid, math.inf).flatten()
    return _smallest(ranked, kept).view_as(losses)


def _smallest(values: Tensor, count: Tensor) -> Tensor:
    """Return where the ``count`` smallest of ``values [N]`` are, ``bool [N]``."""
    if values.device.type != 'cpu':
        return _smallest_by_rank(values, count)
    smallest = values.topk(int(count), largest=False, sorted=False).indices
    return torch.zeros_like(values, dtype=torch.bool).index_fill_(0, smallest, 1)


def _smallest_by_rank(values: Tensor, count: Tensor) -> Tensor:
    """Return the same; several times the work, but the host never waits for the number."""
    counted = torch.arange(len(values), device=values.device) < count
    return torch.empty_like(counted).scatter_(0, values.argsort(), counted)

# SPDX-License-Identifier: Apache-2.0
"""Losses after DCR (Wan et al., IEEE TCSVT).

No formula of them was published: these are what its description and the names in its released
code suggest, and the method's documentation says so.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID
from multishift_training.losses.noise_aware import pixel_cross_entropy
from multishift_training.models.layers import gaussian
from multishift_training.models.precision import in_full

_DICE_SMOOTHING = 1.0
_WINDOW, _DEVIATION = 11, 1.5  # of the structural similarity, in pixels
_RANGE = 2.0  # of images from -1 to 1


def novelty_cross_entropy(logit: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the binary cross-entropy of each pixel ``[B,H,W]``; 0 where it is void.

    Args:
        logit: that a pixel is novel, ``[B,H,W]``.
        labels: ``int64 [B,H,W]``.
        weights: of the novel pixels, ``[B,H,W]``.
    """
    logit, novel = in_full(logit), labels == NOVEL
    losses = F.binary_cross_entropy_with_logits(logit, novel.to(logit), reduction='none')
    return losses * torch.where(novel, weights, 1) * (labels != VOID)


def novelty_dice(logit: Tensor, labels: Tensor) -> Tensor:
    """Return the dice loss of each image ``[B]``: squares in the denominator, smoothed by 1.

    Args:
        logit: that a pixel is novel, ``[B,H,W]``.
        labels: ``int64 [B,H,W]``; void pixels do not count.
    """
    found = (in_full(logit).sigmoid() * (labels != VOID)).flatten(1)
    novel = (labels == NOVEL).to(found).flatten(1)
    shared = 2 * (found * novel).sum(1) + _DICE_SMOOTHING
    return 1 - shared / (found.square().sum(1) + novel.sum(1) + _DICE_SMOOTHING)


def cognitive_cross_entropy(
    logits: Tensor, labels: Tensor, groups: Tensor | None = None
) -> Tensor:
    """Return the loss of each pixel ``[B,H,W]`` of a classifier that learns what is novel.

    Its classes where they are known, all alike where a pixel is novel, nothing where it is void.

    Args:
        logits: ``[B,C,H,W]``.
        labels: ``int64 [B,H,W]``.
        groups: see `pixel_cross_entropy`.
    """
    alike = -in_full(logits).log_softmax(1).mean(1)
    return pixel_cross_entropy(logits, labels, groups=groups) + alike * (labels == NOVEL)


@torch.no_grad()
def cognitive_discrepancy(frozen: Tensor, learned: Tensor, labels: Tensor) -> Tensor:
    """Return how far two classifiers are apart, from 0 to 1 within each image: ``[B,H,W]``.

    A patch that looks like its classes to both is little novel. Where all pixels of an image are
    equally far, it is 1. No gradient passes.

    Args:
        frozen: log-probabilities of the classifier that never saw what is novel, ``[B,C,H,W]``.
        learned: logits of the one that did.
        labels: ``int64 [B,H,W]``; void pixels do not count.
    """
    frozen, learned = in_full(frozen), in_full(learned).log_softmax(1)
    apart = (frozen.exp() * (frozen - learned)).sum(1)
    counted = labels != VOID
    largest = apart.masked_fill(~counted, -torch.inf).amax((1, 2), keepdim=True)
    smallest = apart.masked_fill(~counted, torch.inf).amin((1, 2), keepdim=True)
    spread = largest - smallest
    return torch.where(spread > 0, (apart - smallest) / spread, 1).clamp(0, 1)


def reconstruction_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Return ``L1 + (1 - SSIM)`` of images from -1 to 1, ``[B,3,h,w]``: a loss each, ``[B]``."""
    return (found - wanted).abs().mean((1, 2, 3)) + 1 - structural_similarity(found, wanted)


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean structural similarity (Wang et al., 2004, Eq. 13) of images, ``[B]``.

    The window is a Gaussian of 11 pixels, cut down where images are smaller, and lies inside.

    Args:
        first: ``[B,K,h,w]``, from -1 to 1.
        second: alike.
    """
    channels = first.shape[1]
    windows = (gaussian(min(_WINDOW, side), _DEVIATION, first) for side in first.shape[2:])
    kernels = [window.expand(channels, 1, 1, -1) for window in windows]

    def blurred(values: Tensor) -> Tensor:
        by_rows = F.conv2d(values, kernels[0].transpose(2, 3), groups=channels)
        return F.conv2d(by_rows, kernels[1], groups=channels)

    mean_1, mean_2 = blurred(first), blurred(second)
    variance_1 = blurred(first * first) - mean_1 * mean_1
    variance_2 = blurred(second * second) - mean_2 * mean_2
    covariance = blurred(first * second) - mean_1 * mean_2
    light, contrast = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
    similar = (2 * mean_1 * mean_2 + light) * (2 * covariance + contrast)
    norm = (mean_1.square() + mean_2.square() + light) * (variance_1 + variance_2 + contrast)
    return (similar / norm).mean((1, 2, 3))

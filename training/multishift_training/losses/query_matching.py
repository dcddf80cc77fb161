# SPDX-License-Identifier: Apache-2.0
"""Matches the queries of a mask network with the classes of an image (Mask2Former, section 3)."""

from __future__ import annotations

from typing import NamedTuple

from scipy.optimize import linear_sum_assignment
import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL
from multishift_training.losses.options import MaskWeights


class Match(NamedTuple):
    """The queries of an image that stand for a class, and their classes, ``int64 [K]`` both."""

    queries: Tensor
    classes: Tensor


@torch.no_grad()
def match(
    class_logits: Tensor, mask_logits: Tensor, labels: Tensor, *, weights: MaskWeights, points: int
) -> Match:
    """Assign each known class in an image the query that fits it best, one query to a class.

    Masks are compared on random points, the same for all of them.

    Args:
        class_logits: ``float32 [Q,C+1]``.
        mask_logits: ``float32 [Q,h,w]``.
        labels: ``int64 [H,W]`` over the same field of view.
        weights: of the costs.
        points: how many random points.
    """
    where = torch.rand(1, points, 2, device=mask_logits.device)
    present = torch.unique(labels)
    classes = present[present < NOVEL]
    predicted = point_sample(mask_logits[None], where)[0]
    wanted = point_sample(class_masks(labels, classes)[None], where)[0]
    cost = (
        weights.mask * _cross_entropy_cost(predicted, wanted)
        + weights.dice * _dice_cost(predicted, wanted)
        - weights.classification * class_logits.softmax(-1)[:, classes]
    )
    # The solver refuses what is not finite. A network that has diverged shows in the losses.
    queries, assigned = linear_sum_assignment(cost.nan_to_num().cpu().numpy())
    device = labels.device
    return Match(
        torch.from_numpy(queries).to(device), classes[torch.from_numpy(assigned).to(device)]
    )


def class_masks(labels: Tensor, classes: Tensor) -> Tensor:
    """Return the mask of each class, ``float32 [K,H,W]`` of zeros and ones.

    Args:
        labels: ``int64 [H,W]``.
        classes: ``int64 [K]``.
    """
    return (labels == classes[:, None, None]).float()


def point_sample(maps: Tensor, points: Tensor) -> Tensor:
    """Return maps at points, bilinear between pixel centres and zero beyond: ``[N,D,P]``.

    Args:
        maps: ``float32 [N,D,H,W]``.
        points: ``float32 [N,P,2]``, x and y from 0 to 1 across the map.
    """
    grid = 2 * points[:, :, None] - 1
    return F.grid_sample(maps, grid, align_corners=False).squeeze(3)


def _cross_entropy_cost(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Return the binary cross-entropy of logits ``[Q,P]`` with masks ``[K,P]``, ``[Q,K]``."""
    return F.softplus(predicted).mean(1, keepdim=True) - predicted @ wanted.T / wanted.shape[1]


def _dice_cost(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Return the dice loss of logits ``[Q,P]`` with masks ``[K,P]``, ``[Q,K]``."""
    probability = predicted.sigmoid()
    area = probability.sum(1, keepdim=True) + wanted.sum(1)
    return 1 - (2 * probability @ wanted.T + 1) / (area + 1)

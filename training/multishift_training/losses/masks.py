# SPDX-License-Identifier: Apache-2.0
"""The losses of mask networks: class and mask of each matched query (Mask2Former, section 3).

MultiShiftSeg trusts the masks of augmented images only where they are easy to learn: of these,
the points with the smallest losses count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import VOID
from multishift_training.losses.contrastive import halves
from multishift_training.losses.options import MaskWeights
from multishift_training.losses.query_matching import (
    Match,
    class_masks,
    match,
    point_sample,
)
from multishift_training.models.precision import exactly, in_full
from multishift_training.models.prediction import MaskPrediction

STRIDE = 4  # of mask logits, in pixels of the padded image
MULTIPLE = 32  # of the sides of the padded image

# As published. Candidates per point and share of points taken among them: by uncertainty (as
# PointRend samples) and by small loss; the remaining points are random.
UNCERTAIN_CANDIDATES, UNCERTAIN_SHARE = 3.0, 0.75
SMALL_LOSS_SHARE = 0.95
ORIGINAL_WEIGHT = 2.0


class MaskTerms(NamedTuple):
    """The parts of the loss before their weights, scalars."""

    classification: Tensor
    mask: Tensor
    dice: Tensor


def mask_losses(
    prediction: MaskPrediction,
    labels: Tensor,
    *,
    class_weight: Tensor,
    ratio: float | None = 0.8,
    weights: MaskWeights = MaskWeights(),  # noqa: B008 (immutable)
    points: int = 12544,
) -> MaskTerms:
    """Return the losses of a batch after matching queries with classes.

    A mask's target is one where its class is, zero elsewhere, void and novel pixels included, as
    published. Points come from torch's global generator. Parts without a matched mask are zero.

    Args:
        prediction: of a batch ``[B]``; ``[originals; augmented]`` where ``ratio`` is given. The
            uncertainty head takes no part.
        labels: ``int64 [B,H,W]`` of the image without its padding.
        class_weight: ``float32 [C+1]``, in the classification; "no object" is last.
        ratio: share of the points of augmented images that is trusted: those with the smallest
            losses of ``points / ratio``. Without it, all images are treated alike, and points
            are drawn where the mask is uncertain.
        weights: of the costs of matching.
        points: per mask.

    Raises:
        ValueError: the labels do not have the image's size, or ``ratio`` is given and the batch
            is odd.
    """
    # Costs and sums over thousands of points need more digits than mixed precision has.
    with exactly(labels):
        class_logits, mask_logits = map(in_full, (prediction.class_logits, prediction.mask_logits))
        labels = _padded(labels, mask_logits)
        matches = [
            match(*image, weights=weights, points=points)
            for image in zip(class_logits, mask_logits, labels, strict=True)
        ]
        classification = _classification(class_logits, matches, class_weight)
        if ratio is None:
            mask, dice = _plain(mask_logits, labels, matches, points)
        else:
            mask, dice = _noise_aware(mask_logits, labels, matches, points, ratio)
    return MaskTerms(classification, mask, dice)


class _Masks:
    """The matched masks of some images, ``N`` in all."""

    def __init__(self, mask_logits: Tensor, labels: Tensor, matches: Sequence[Match]) -> None:
        self._labels = labels
        self._matches = matches
        self.logits = torch.cat(
            [masks[m.queries] for masks, m in zip(mask_logits, matches, strict=True)]
        )

    def predicted(self, points: Tensor) -> Tensor:
        """Return the logits at points of each mask's own, ``[N,P]``; ``points`` is ``[N,P,2]``."""
        return point_sample(self.logits[:, None], points)[:, 0]

    def wanted(self, points: Tensor) -> Tensor:
        """Return the targets at these points, ``[N,P]``."""
        # Image by image: all masks of a batch at full size would take a gigabyte.
        per_image = torch.split(points, [len(m.classes) for m in self._matches])
        images = zip(self._labels, self._matches, per_image, strict=True)
        return torch.cat(
            [point_sample(class_masks(x, m.classes)[:, None], p)[:, 0] for x, m, p in images]
        )

    def random_points(self, count: int) -> Tensor:
        """Return random points for each mask, ``[N,count,2]``."""
        return torch.rand(len(self.logits), count, 2, device=self.logits.device)

    def losses(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return cross-entropy and dice loss at points, means over the masks; 0 without any."""
        predicted, wanted = self.predicted(points), self.wanted(points)
        cross_entropy = F.binary_cross_entropy_with_logits(predicted, wanted, reduction='none')
        probability = predicted.sigmoid()
        area = probability.sum(1) + wanted.sum(1)
        dice = 1 - (2 * (probability * wanted).sum(1) + 1) / (area + 1)
        masks = max(len(predicted), 1)
        return cross_entropy.mean(1).sum() / masks, dice.sum() / masks


def _padded(labels: Tensor, mask_logits: Tensor) -> Tensor:
    """Return the labels with void where the network padded its image, right and below."""
    below, right = (
        STRIDE * padded - size
        for padded, size in zip(mask_logits.shape[-2:], labels.shape[-2:], strict=True)
    )
    if not (0 <= below < MULTIPLE and 0 <= right < MULTIPLE):
        raise ValueError(
            f'labels are {tuple(labels.shape[-2:])}, not of the image whose masks are '
            f'{tuple(mask_logits.shape[-2:])}'
        )
    return F.pad(labels, (0, right, 0, below), value=VOID)


def _classification(
    class_logits: Tensor, matches: Sequence[Match], class_weight: Tensor
) -> Tensor:
    """Return the cross-entropy of all queries; those unmatched are "no object"."""
    nothing = class_logits.shape[2] - 1
    wanted = torch.full(class_logits.shape[:2], nothing, device=class_logits.device)
    for row, m in zip(wanted, matches, strict=True):
        row[m.queries] = m.classes
    return F.cross_entropy(class_logits.transpose(1, 2), wanted, class_weight)


def _plain(
    mask_logits: Tensor, labels: Tensor, matches: Sequence[Match], points: int
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and dice loss of all masks where they are uncertain."""
    masks = _Masks(mask_logits, labels, matches)
    with torch.no_grad():
        candidates = masks.random_points(int(UNCERTAIN_CANDIDATES * points))
        certainty = masks.predicted(candidates).abs()
        chosen = _chosen(masks, candidates, certainty, points, UNCERTAIN_SHARE)
    return masks.losses(chosen)


def _noise_aware(
    mask_logits: Tensor, labels: Tensor, matches: Sequence[Match], points: int, ratio: float
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and dice loss, of augmented images where the cross-entropy is small."""
    half = len(matches) // 2
    masks, maps = halves(mask_logits), halves(labels)
    original = _Masks(masks[0], maps[0], matches[:half])
    augmented = _Masks(masks[1], maps[1], matches[half:])
    mask, dice = original.losses(original.random_points(points))
    with torch.no_grad():
        candidates = augmented.random_points(int(points / ratio))
        loss = F.binary_cross_entropy_with_logits(
            augmented.predicted(candidates), augmented.wanted(candidates), reduction='none'
        )
        chosen = _chosen(augmented, candidates, loss, points, SMALL_LOSS_SHARE)
    augmented_mask, augmented_dice = augmented.losses(chosen)
    return ORIGINAL_WEIGHT * mask + augmented_mask, ORIGINAL_WEIGHT * dice + augmented_dice


def _chosen(masks: _Masks, candidates: Tensor, value: Tensor, points: int, share: float) -> Tensor:
    """Return the candidates of the smallest values, and random ones for the rest of the points.

    Args:
        masks: whose points they are.
        candidates: ``[N,S,2]``.
        value: ``[N,S]``.
        points: how many in all.
        share: how many of them are candidates.
    """
    best = int(share * points)
    index = value.topk(best, dim=1, largest=False, sorted=False).indices
    taken = candidates.gather(1, index[..., None].expand(-1, -1, 2))
    return torch.cat([taken, masks.random_points(points - best)], 1)

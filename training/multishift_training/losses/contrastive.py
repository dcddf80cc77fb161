# SPDX-License-Identifier: Apache-2.0
"""The relative contrastive loss of MultiShiftSeg over all pairs of pixels.

Batches are laid out as ``[originals; augmented]``, the same scenes in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from multishift_perception.classes import NOVEL
from multishift_training.losses.options import ThirdTerm
from multishift_training.losses.sorted_hinge import sorted_hinge_sums
from multishift_training.models.precision import in_full

# What the third term cuts at zero, of u_augmented - u_original and its margin. The paper's form
# wants the augmented score lower by the margin; the poster's wants both equal, its margin being a
# constant; the released code's lets the score rise by the margin.
THIRD_TERMS: dict[ThirdTerm, Callable[[Tensor, float], Tensor]] = {
    'paper': lambda rise, margin: rise + margin,
    'poster': lambda rise, margin: rise.abs() + margin,
    'code': lambda rise, margin: rise - margin,
}


class Margins(NamedTuple):
    """Margins of the three terms, in units of the score."""

    original: float
    augmented: float
    consistency: float


class ContrastiveTerms(NamedTuple):
    """The three terms, scalars of the score's type (``float32`` for narrower scores).

    Attributes:
        original: novel pixels above known pixels of the originals.
        augmented: novel pixels above known pixels of the augmented images.
        consistency: known pixels of the augmented images not above the same pixels before.
    """

    original: Tensor
    augmented: Tensor
    consistency: Tensor

    @property
    def total(self) -> Tensor:
        """The loss: the sum of the terms."""
        return self.original + self.augmented + self.consistency


def relative_contrastive(
    score: Tensor,
    labels: Tensor,
    *,
    margins: Margins,
    third_term: ThirdTerm = 'paper',
) -> ContrastiveTerms:
    """Return the terms of the paper's Eq. 4 as means over every pair there is.

    Novel pixels are those of both halves. The pairs of the third term are one pixel before and
    after augmentation, known in both; their classes are not compared. Costs O(N log N). A term
    without pairs is zero.

    Args:
        score: ``[2B,H,W]``, larger is more anomalous.
        labels: ``int64 [2B,H,W]``.
        margins: wanted distances.
        third_term: form of the third term.
    """
    score = torch.stack(halves(in_full(score))).flatten(1)
    known = torch.stack(halves(labels < NOVEL)).flatten(1)
    is_novel = labels.flatten() == NOVEL
    low = torch.stack([score[0] + margins.original, score[1] + margins.augmented])
    sums = _hinge_sums(low, known, score.flatten(), is_novel)
    pairs = known.sum(1) * is_novel.sum()
    original, augmented = (sums / pairs.clamp(min=1)).to(score.dtype).unbind()
    before, after = score.unbind()
    third = consistency(after - before, known[0] & known[1], margins.consistency, third_term)
    return ContrastiveTerms(original, augmented, third)


def consistency(rise: Tensor, known: Tensor, margin: float, third_term: ThirdTerm) -> Tensor:
    """Return the third term: the mean over ``known`` pixels of the cut ``rise``; 0 without any.

    Args:
        rise: score after augmentation minus before, ``[B,H,W]``.
        known: ``bool [B,H,W]``, where the pixel is known in both.
        margin: its margin.
        third_term: its form.
    """
    hinge = F.relu(THIRD_TERMS[third_term](rise, margin)) * known
    return hinge.sum() / known.sum().clamp(min=1)


def halves(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return the originals and the augmented images of a batch.

    Raises:
        ValueError: the batch is odd.
    """
    if len(batch) % 2:
        raise ValueError(f'a batch of originals and augmented images is even, not {len(batch)}')
    original, augmented = batch.chunk(2)
    return original, augmented


def _hinge_sums(low: Tensor, counts: Tensor, values: Tensor, is_high: Tensor) -> Tensor:
    """Return what `sorted_hinge_sums` does, in the way that suits the device."""
    if values.device.type != 'cpu':
        return sorted_hinge_sums(low, counts, values, is_high)
    high = values.index_select(0, is_high.nonzero().squeeze(1)).sort().values
    sums: Tensor = _HingeSums.apply(low, counts, high)  # type: ignore[no-untyped-call]
    return sums


class _HingeSums(torch.autograd.Function):
    """Sums of ``relu(low_gi - high_j)`` over all j and the i that count, ``float64 [G]``.

    Of ``low [G,N]``, ``counts: bool [G,N]``, and ``high [M]`` in ascending order. With k the
    number of high values below a low one, and S_k the sum of the k smallest, each low value adds
    ``k low - S_k``; the derivative is k by the low value, and by the r-th smallest high value
    minus the number of low ones with k >= r.
    """

    @staticmethod
    def forward(ctx: Any, low: Tensor, counts: Tensor, high: Tensor) -> Tensor:
        ctx.dtype = low.dtype
        if len(high) == 0:
            none = torch.zeros_like(low, dtype=torch.int32)
            ctx.save_for_backward(none, none[:, :1])
            return low.new_zeros(len(low), dtype=torch.float64)
        below = _count_below(high, low.flatten()).view_as(low).mul_(counts)
        having = torch.stack([torch.bincount(k, minlength=len(high) + 1) for k in below])
        ctx.save_for_backward(below, having)
        first = high[:1].double()  # sums of distances from it stay small
        smallest = F.pad((high - first).cumsum(0), (1, 0))
        return (below * (low - first)).sum(1) - having.double() @ smallest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        below, having = ctx.saved_tensors
        at_least = having[:, 1:].flip(1).cumsum(1).flip(1).double()
        by_low = below.to(ctx.dtype).mul_(grad.to(ctx.dtype)[:, None])
        return by_low, None, -(grad @ at_least).to(ctx.dtype)


def _count_below(ascending: Tensor, values: Tensor) -> Tensor:
    """Return how many of ``ascending [M]``, M > 0, are below each of ``values [N]``, ``int32``.

    What ``torch.searchsorted`` returns, in a fraction of its time on a CPU: that one mispredicts
    branches all the way, this one starts each value at its cell of an even grid and bisects from
    there without branches.
    """
    cells = 1 << len(ascending).bit_length()
    spread = (ascending[-1] - ascending[0]).clamp(min=1e-30)

    def cell(x: Tensor) -> Tensor:
        # Never falls as x rises, rounding included, so that cells and values have one order.
        place = (x - ascending[0]).mul_((cells - 1) / spread).nan_to_num_(0)
        return place.clamp_(0, cells - 1).to(torch.int32)

    occupants = torch.bincount(cell(ascending), minlength=cells)
    first = (occupants.cumsum(0) - occupants).to(torch.int32)
    steps = int(occupants.max()).bit_length()
    padded = F.pad(ascending, (0, 1 << steps), value=math.inf)
    count = first.index_select(0, cell(values))
    for step in (1 << i for i in reversed(range(steps))):
        count.add_(padded[step - 1 :].index_select(0, count) < values, alpha=step)
    return count

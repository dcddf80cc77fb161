# SPDX-License-Identifier: Apache-2.0
"""Hinge sums over all pairs by sorting, for devices that the host must not wait for."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def sorted_hinge_sums(low: Tensor, counts: Tensor, values: Tensor, is_high: Tensor) -> Tensor:
    """Return the sums of ``relu(low_gi - high_j)`` over all j and the i that count, ``[G]``.

    They are those of `contrastive`, whose own way is the faster one on a CPU. Here no shape
    depends on a value, so that a GPU can be given its work without asking it anything.

    Args:
        low: ``[G,N]``.
        counts: which of them count, ``bool [G,N]``.
        values: ``[M]``.
        is_high: which of those are high values, ``bool [M]``.
    """
    sums: Tensor = _Sums.apply(low, counts, values, is_high)  # type: ignore[no-untyped-call]
    return sums


class _Sums(torch.autograd.Function):
    """What `sorted_hinge_sums` returns; values that are not high, at infinity, are above all."""

    @staticmethod
    def forward(ctx: Any, low: Tensor, counts: Tensor, values: Tensor, is_high: Tensor) -> Tensor:
        high, order = values.masked_fill(~is_high, math.inf).sort()
        total = is_high.sum()
        below = torch.searchsorted(high, low, out_int32=True).minimum(total).mul_(counts)
        # Sums of distances from the first stay small.
        first = torch.where(total > 0, high[:1], 0).double()
        away = torch.where(torch.arange(len(high), device=high.device) < total, high - first, 0)
        smallest = F.pad(away.cumsum(0), (1, 0))
        ctx.save_for_backward(low, counts, below, high, order)
        return (below * (low - first) - smallest[below]).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None]:
        low, counts, below, high, order = ctx.saved_tensors
        by_low = below.to(low.dtype).mul_(grad.to(low.dtype)[:, None])
        ascending = low.masked_fill(~counts, -math.inf).sort(1).values
        each = high.expand(len(low), -1).contiguous()
        above = low.shape[1] - torch.searchsorted(ascending, each, right=True)
        by_high = -(grad[:, None] * above).sum(0).to(high.dtype)
        return by_low, None, torch.zeros_like(by_high).scatter_(0, order, by_high), None

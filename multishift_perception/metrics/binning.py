# SPDX-License-Identifier: Apache-2.0
"""Adaptive bins over integer keys: how exact keys become bins, and bins wider bins.

A bin is a number of lowest bits that its keys are free in (its level, 0..31) and the bits above
them. Both make its code, ``low << 5 | level``: codes in order are bins in order of their lowest
keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.metrics.score_keys import Keys

Counts = NDArray[np.uint32] | NDArray[np.int64]

_BLOCK = 1 << 14  # bins handled at once: their temporary arrays fit into a core's cache
_UNBOUNDED = 1 << 33  # differs from every key in a bit above all of them


class Binned(NamedTuple):
    """Bins, lowest code first; a code may be there twice.

    Attributes:
        codes: ``int64 [B]``.
        counts: known (row 0) and novel (row 1) pixels, ``uint32`` or ``int64 [2,B]``.
    """

    codes: NDArray[np.int64]
    counts: Counts


class Resolution(NamedTuple):
    """How many pixels may share a bin.

    Attributes:
        tolerance: part of the pixels above the bin; zero where all keys stay exact.
        share: part of all pixels, if that is less.
        exact_novel: whether the keys of novel pixels stay exact, and known pixels on either side
            of one apart.
    """

    tolerance: float
    share: float
    exact_novel: bool

    def finer(self, times: float) -> Self:
        """Return a resolution with so many times fewer pixels in a bin."""
        return self._replace(tolerance=self.tolerance / times, share=self.share / times)


NOTHING = Binned(np.zeros(0, np.int64), np.zeros((2, 0), np.uint32))


def intervals(codes: NDArray[np.int64]) -> tuple[Keys, Keys]:
    """Return the lowest and the highest key of each bin."""
    low, free = codes >> 5, (np.int64(1) << (codes & 31)) - 1
    return low.astype(np.uint32), (low + free).astype(np.uint32)


def thin(keys: Keys, row: int, resolution: Resolution) -> Binned:
    """Put sorted keys of known (row 0) or of novel pixels (row 1) into bins.

    A bin takes up to some three times as many keys as the resolution has it for these keys alone.
    """
    if not keys.size:
        return NOTHING
    exact = resolution.tolerance == 0 or (row == 1 and resolution.exact_novel)
    slices = [(0, keys.size, 1)] if exact else list(_slices(keys.size, resolution))[::-1]
    parts = [_thin_slice(keys, *piece) for piece in slices]
    codes = np.concatenate([codes for codes, _ in parts])
    counts = np.zeros((2, codes.size), np.uint32)
    np.concatenate([pixels for _, pixels in parts], out=counts[row], casting='unsafe')
    return Binned(codes, counts)


def combine(parts: Sequence[Binned], resolution: Resolution) -> Binned:
    """Return all pixels in one set of different bins, as wide as the resolution lets them be."""
    largest = max((part.codes for part in parts), key=len, default=NOTHING.codes)
    cuts = largest[_BLOCK::_BLOCK] >> 5  # the first key of each block but the first
    edges = [
        np.concatenate([[0], np.searchsorted(part.codes, cuts << 5), [part.codes.size]])
        for part in parts
    ]
    below, beyond = [_UNBOUNDED, *(cuts - 1).tolist()], [*cuts.tolist(), _UNBOUNDED]
    total = above = sum(int(part.counts.sum(dtype=np.int64)) for part in parts)
    dtype: type[np.uint32] | type[np.int64] = np.uint32 if total < 1 << 32 else np.int64
    codes, counts = [], []
    for i, limits in enumerate(zip(below, beyond, strict=True)):
        spans = [slice(edge[i], edge[i + 1]) for edge in edges]
        pieces = [
            NOTHING,
            *((p.codes[s], p.counts[:, s]) for p, s in zip(parts, spans, strict=True)),
        ]
        block = _unite(
            np.concatenate([piece[0] for piece in pieces]),
            np.concatenate([piece[1] for piece in pieces], axis=1),
        )
        if resolution.tolerance:
            above -= int(block.counts.sum())
            block = _coarsen(block, (total, above), limits, resolution)
        codes.append(block.codes)
        counts.append(np.asarray(block.counts, dtype))
    merged = np.concatenate(codes)
    codes.clear()  # half of what is here twice
    return Binned(merged, np.concatenate(counts, axis=1))


def run_starts(values: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return where each run of equal values begins."""
    if not values.size:
        return np.zeros(0, np.intp)
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])


def _unite(codes: NDArray[np.int64], counts: Counts) -> Binned:
    """Sort bins and add up those of the same code."""
    order = np.argsort(codes, kind='stable')  # fast on the sorted runs that it gets
    codes = codes.take(order)
    starts = run_starts(codes)
    # Differences of running sums: faster over runs as short as these than ``np.add.reduceat``.
    sums = np.zeros((2, codes.size + 1), np.int64)
    np.cumsum(counts.take(order, axis=1), axis=1, out=sums[:, 1:])
    return Binned(codes[starts], np.diff(sums.take(np.append(starts, codes.size), axis=1)))


def _coarsen(
    block: Binned, pixels: tuple[int, int], limits: tuple[int, int], resolution: Resolution
) -> Binned:
    """Widen the bins of a block.

    Args:
        block: the bins.
        pixels: how many there are in all, and above the block.
        limits: the nearest keys below and above that no bin may reach.
        resolution: how many pixels may share a bin.
    """
    codes, counts = block
    if not codes.size:
        return block
    low, level = codes >> 5, codes & 31
    here = counts.sum(0)
    rank = pixels[1] + here.sum() - np.cumsum(here)
    unit, allowed = _units(rank, max(1.0, resolution.share * pixels[0]), resolution.tolerance)
    # One score that many pixels share remains a bin, and a unit, of its own.
    kept = (here >= allowed) & (level == 0)
    if resolution.exact_novel:
        kept |= (counts[1] > 0) & (level == 0)
    change = (unit[1:] != unit[:-1]) | kept[1:] | kept[:-1]
    starts = np.concatenate([[0], np.flatnonzero(change) + 1])
    sizes = np.diff(np.append(starts, low.size))
    # The widest bin that reaches neither the unit after the next nor the one before the last, nor
    # a bin that remains.
    first = np.append(low[starts], [limits[1], limits[1]])
    last = np.append([limits[0], limits[0]], low[np.append(starts[1:], low.size) - 1])
    alone = kept[starts]
    following = np.where(np.append(alone[1:], True), first[1:-1], first[2:])
    preceding = np.where(np.append(True, alone[:-1]), last[1:-1], last[:-2])
    near = np.minimum(low ^ np.repeat(following, sizes), low ^ np.repeat(preceding, sizes))
    free = np.where(kept, level, np.maximum(level, _highest_bit(near)))
    return _unite((low >> free << free) << 5 | free, counts)


def _units(
    rank: NDArray[np.int64], most: float, tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Part pixels, by the number of pixels above, into units of half the pixels a bin may hold.

    Returns:
        The number of each pixel's unit, and the pixels a bin there may hold: 1 at the top, then
        ``tolerance * rank``, ``most`` in the end.
    """
    allowed = np.clip(tolerance * rank, 1.0, most)
    # The integral of 2 / allowed over the ranks.
    bins = np.minimum(rank, 1 / tolerance) + np.log(allowed) / tolerance
    bins += np.maximum(rank - most / tolerance, 0) / most
    return (2 * bins).astype(np.int64), allowed


def _slices(size: int, resolution: Resolution) -> Iterator[tuple[int, int, int]]:
    """Part sorted keys, from the highest to the lowest, into slices of units of one size each.

    Yields:
        Start and end of a slice, and the keys in a unit.
    """
    most = max(1.0, resolution.share * size)
    stop = size
    while stop > 0:
        above = size - stop
        unit = int(np.clip(resolution.tolerance * above, 1, most))
        length = max(above // 8, int(1 / resolution.tolerance)) // unit * unit
        if length > stop:
            length = stop // unit * unit
        if not length:  # fewer than a unit are left
            length, unit = stop, 1
        yield stop - length, stop, unit
        stop -= length


def _thin_slice(
    keys: Keys, start: int, stop: int, unit: int
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Put ``keys[start:stop]`` into bins, units of so many keys at a time.

    Returns:
        The bins' codes, in order and all different, and the keys in each.
    """
    if unit == 1:
        codes = keys[start:stop].astype(np.int64) << 5
        starts = run_starts(codes)
        return codes[starts], np.diff(np.append(starts, codes.size))
    # Bins that reach neither the unit after the next nor the one before the last, nor keys of
    # another slice. Below the lowest slice there are none: the highest key stands for them.
    units = keys[start:stop].reshape(-1, unit)
    first = np.arange(start, stop, unit)
    following = keys[np.minimum(first + 2 * unit, stop)]
    preceding = keys[np.maximum(first - unit - 1, start - 1)]
    near = np.minimum(units[:, -1] ^ following, units[:, 0] ^ preceding)
    level = np.maximum(_highest_bit(near), 0)
    low = (units & (np.uint32(0xFFFFFFFF) << level.astype(np.uint32))[:, None]).reshape(-1)
    change = low[1:] != low[:-1]
    change[unit - 1 :: unit] |= level[1:] != level[:-1]
    starts = np.concatenate([[0], np.flatnonzero(change) + 1])
    codes = low[starts].astype(np.int64) << 5 | level[starts // unit]
    order = np.argsort(codes, kind='stable')
    pixels = np.diff(np.append(starts, low.size))[order]
    starts = run_starts(codes[order])
    return codes[order][starts], np.add.reduceat(pixels, starts)


def _highest_bit(values: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the place of the highest set bit, 31 at most and -1 for zero."""
    _, exponent = np.frexp(values.astype(np.float64))
    return np.minimum(exponent.astype(np.int64) - 1, 31)

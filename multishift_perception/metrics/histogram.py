# SPDX-License-Identifier: Apache-2.0
"""A histogram of scores in fixed memory whose bins are narrow where the pixels are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multishift_perception.metrics import binning
from multishift_perception.metrics.binning import Binned, Counts, Resolution
from multishift_perception.metrics.score_keys import PIECE, KeyBuffer, Keys

# Parts of the bins that high scores and all the others are meant to fill. Aligning bins to powers
# of two takes the rest.
_TOP, _BULK = 0.22, 0.25
# Bins of other histograms that are put in order at a time: 16 MB, mostly the others' own.
_MERGED = 1 << 20
_EXACT_NOVEL = 1 / 16  # up to so many novel pixels per bin allowed, their scores stay exact


@dataclass(frozen=True)
class Bins:
    """Occupied bins of a histogram, lowest score first.

    A bin says that its pixels' scores lie somewhere between ``low`` and ``high``. Bins are
    disjoint or nested: a bin within another holds pixels that were counted more finely.

    Attributes:
        low: key of the lowest score a pixel of the bin may have, ``uint32 [B]``.
        high: key of the highest, ``uint32 [B]``; equal to ``low`` where the score is exact.
        counts: known (row 0) and novel (row 1) pixels, ``uint32`` or ``int64 [2,B]``.
    """

    low: Keys
    high: Keys
    counts: Counts


class ScoreHistogram:
    """Counts of known and novel pixels by score key.

    Exact while the different scores are no more than ``max_bins``. Beyond that, neighbours share
    bins: intervals of keys aligned to powers of two, as in the q-digest (Shrivastava et al.,
    "Medians and beyond", SenSys 2004). None holds more pixels than a small multiple of ``t R``,
    where ``R`` is the number of pixels above it, nor of ``4 n / max_bins`` for ``n`` pixels in
    all. So pixels of the ``1 / t`` highest scores stay apart; ``t`` is 4e-5 for the default and
    2 * 10^7 pixels, and grows with the logarithm of their number. While novel pixels are few, up
    to one for every 16 bins, theirs are bins of their own that no bin of known ones reaches over.

    Pixels that fall into a wide bin later get bins of their own within it. So the order of the
    images matters little, and not at all while counts are exact.

    Memory: 16 bytes per bin and 4 per pending pixel, and about three times as much for a moment
    when pending pixels are sorted in; 55 MB at most by default.
    """

    def __init__(self, max_bins: int = 9 << 16, max_pending: int = 1 << 22) -> None:
        """Start empty; ``max_pending`` pixels (2^16 at least) are sorted in at a time."""
        self._max_bins = max_bins
        self._parts: list[Binned] = []
        self._exact = True
        self._buffer = KeyBuffer(max(max_pending, PIECE))
        self._widening = 1.0

    def add(self, known: Keys, novel: Keys) -> None:
        """Count pixels, 2^16 at most, by their keys."""
        if not self._buffer.fits(known.size + novel.size):
            self._flush()
            self._limit()
        self._buffer.append(known, novel)

    def merge(self, *others: ScoreHistogram) -> None:
        """Add what other histograms have counted."""
        self._flush()
        for other in others:
            self._parts.append(other.binned())
            if self._size() > max(_MERGED, 2 * self._max_bins):
                self._combine()
        self._limit()

    def binned(self) -> Binned:
        """Return the bins of all pixels so far as codes."""
        self._flush()
        self._combine()
        return self._parts[0]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all of it, pending pixels too: what goes on from there gets the same bins."""
        known, novel = self._buffer.sorted()
        parts = [binning.NOTHING, *self._parts]
        return {
            # Differences are small numbers: they compress well.
            'codes': np.concatenate([np.diff(part.codes, prepend=0) for part in parts]),
            'counts': np.concatenate([part.counts for part in parts], axis=1),
            'sizes': np.array([part.codes.size for part in self._parts], np.int64),
            'known': np.diff(known, prepend=np.uint32(0)),
            'novel': np.diff(novel, prepend=np.uint32(0)),
            'exact': np.array(self._exact),
            'widening': np.array(self._widening),
        }

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up, while empty, what `to_arrays` of another returned."""
        ends = np.cumsum(arrays['sizes'])
        codes = np.split(arrays['codes'], ends)[:-1]
        counts = np.split(arrays['counts'], ends, axis=1)[:-1]
        self._parts = [Binned(np.cumsum(c), n) for c, n in zip(codes, counts, strict=True)]
        self._exact, self._widening = bool(arrays['exact']), float(arrays['widening'])
        self._limit()
        known, novel = (np.cumsum(arrays[row], dtype=np.uint32) for row in ('known', 'novel'))
        for start in range(0, max(known.size, novel.size), PIECE // 2):
            piece = slice(start, start + PIECE // 2)
            self.add(known[piece], novel[piece])

    def bins(self) -> Bins:
        """Return the bins of all pixels so far."""
        codes, counts = self.binned()
        low, high = binning.intervals(codes)
        return Bins(low, high, counts)

    def _flush(self) -> None:
        """Sort pending pixels into bins."""
        keys = self._buffer.empty()
        self._exact = self._exact and max(_distinct(part) for part in keys) <= self._max_bins
        resolution = self._resolution(self._pixels() + np.array([part.size for part in keys]))
        if not self._parts:  # later ones are but a part of all pixels, their bins narrow anyway
            resolution = resolution.finer(2)
        self._parts += [
            binning.thin(part, row, resolution) for row, part in enumerate(keys) if part.size
        ]

    def _limit(self) -> None:
        if self._size() > 2 * self._max_bins:
            self._combine()

    def _combine(self) -> None:
        """Make one part of all, with no more bins than allowed."""
        if len(self._parts) != 1 or self._size() > self._max_bins:
            self._parts = [binning.combine(self._parts, self._resolution(self._pixels()))]
        while self._size() > self._max_bins:
            self._widening *= 1.0 if self._exact else 1.25
            self._exact = False
            self._parts = [binning.combine(self._parts, self._resolution(self._pixels()))]

    def _resolution(self, pixels: NDArray[np.int64]) -> Resolution:
        """Return the resolution at which so many known and novel pixels get along."""
        share = self._widening / (_BULK * self._max_bins)
        units = 1 + math.log(max(1.0, share * int(pixels.sum())))
        tolerance = 0.0 if self._exact else self._widening * units / (_TOP * self._max_bins)
        return Resolution(tolerance, share, int(pixels[1]) <= _EXACT_NOVEL * self._max_bins)

    def _pixels(self) -> NDArray[np.int64]:
        """Return how many known and how many novel pixels the parts hold."""
        pixels = np.zeros(2, np.int64)
        for part in self._parts:
            pixels += part.counts.sum(1, dtype=np.int64)
        return pixels

    def _size(self) -> int:
        return sum(part.codes.size for part in self._parts)


def _distinct(keys: Keys) -> int:
    """Return how many different keys a sorted array has."""
    return int(keys.size > 0) + int(np.count_nonzero(keys[1:] != keys[:-1]))

# SPDX-License-Identifier: Apache-2.0
"""AUROC, average precision and FPR95 from binned scores, with bounds for what bins hide.

The order of pixels within a bin is unknown. Every figure therefore has a lower and an upper bound
over all orders and ties that the bins allow; without shared bins they coincide.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.metrics.binning import Counts
from multishift_perception.metrics.histogram import Bins
from multishift_perception.metrics.score_keys import Keys

RECALL = 0.95
_Ints = NDArray[np.int64]


class Bounded(NamedTuple):
    """A figure between 0 and 1, and the bounds of what the exact figure can be."""

    estimate: float
    lower: float
    upper: float

    @property
    def error(self) -> float:
        """Return how far off the estimate can be."""
        return max(self.upper - self.estimate, self.estimate - self.lower)

    @classmethod
    def between(cls, lower: float, upper: float, estimate: float | None = None) -> Self:
        """Return bounds in order, with an estimate within them (default: halfway)."""
        lower, upper = min(lower, upper), max(lower, upper)  # equal up to rounding
        halfway = (lower + upper) / 2
        return cls(min(max(halfway if estimate is None else estimate, lower), upper), lower, upper)


class _Pixels:
    """Pixels in order of some key, to ask how many lie above."""

    def __init__(self, keys: Keys, counts: Counts) -> None:
        if (keys[1:] < keys[:-1]).any():
            order = np.argsort(keys, kind='stable')
            keys, counts = keys[order], counts[order]
        self._keys = keys
        self._up_to = np.zeros(keys.size + 1, np.int64)
        np.cumsum(counts, out=self._up_to[1:])
        self.total = int(self._up_to[-1])

    def at_least(self, keys: Keys) -> _Ints:
        """Return the pixels at or above each key."""
        return self.total - self._up_to[np.searchsorted(self._keys, keys, 'left')]

    def above(self, keys: Keys) -> _Ints:
        """Return the pixels above each key."""
        return self.total - self._up_to[np.searchsorted(self._keys, keys, 'right')]

    def key_of(self, place: int) -> Keys:
        """Return the key at a place from the top, the first being 1, as an array of one."""
        rank = np.searchsorted(self._up_to, self.total - place, 'right') - 1
        return self._keys[rank : rank + 1]


class _Class:
    """The pixels of one class, in order of the lowest and of the highest scores of their bins."""

    def __init__(self, bins: Bins, row: int) -> None:
        occupied = bins.counts[row] > 0
        self.low, self.high = bins.low[occupied], bins.high[occupied]
        self.counts = bins.counts[row, occupied]
        self.exact = self.low == self.high
        self.total = int(self.counts.sum(dtype=np.int64))
        self.by_low = _Pixels(self.low, self.counts)
        self.by_high = _Pixels(self.high, self.counts)

    def exactly_at(self, keys: Keys) -> _Ints:
        """Return the pixels known to have each key."""
        pixels = _Pixels(self.low[self.exact], self.counts[self.exact])
        return pixels.at_least(keys) - pixels.above(keys)

    def likely_at_least(self, key: int) -> float:
        """Return how many pixels are at or above a key if each bin's are evenly spread."""
        inside = (self.low < key) & (self.high >= key)
        part = _part_above(self.low[inside], self.high[inside], key)
        above = self.by_low.at_least(np.array([key], np.uint32))
        return int(above[0]) + _dot(self.counts[inside], part)

    def likely_key_of(self, place: int) -> int:
        """Return the key at a place from the top if each bin's pixels are evenly spread."""
        first, last = self.by_low.key_of(place), self.by_high.key_of(place)
        inside = (self.high >= first) & (self.low <= last)
        low, high, counts = self.low[inside], self.high[inside], self.counts[inside]
        wanted = place - int(self.by_low.above(last)[0])
        lower, upper = int(first[0]), int(last[0])
        while lower < upper:  # bisection
            middle = (lower + upper + 1) // 2
            if _dot(counts, _part_above(low, high, middle)) >= wanted:
                lower = middle
            else:
                upper = middle - 1
        return lower


class RankMetrics:
    """The metrics of binned scores in which both known and novel pixels occur."""

    def __init__(self, bins: Bins) -> None:
        """Take the bins."""
        self._known, self._novel = _Class(bins, 0), _Class(bins, 1)
        # Known pixels that may be at or above the scores of each bin of novel ones.
        self._possible = self._known.by_high.at_least(self._novel.low)

    def auroc(self) -> Bounded:
        """Return the area under the ROC curve: the share of ordered pairs, ties count one half."""
        known, novel = self._known, self._novel
        ties = np.where(novel.exact, known.exactly_at(novel.low), 0) / 2
        most = self._possible - ties
        least = known.by_low.above(novel.high) + ties
        pairs = float(known.total) * novel.total
        lower, upper = (1 - float((novel.counts * above).sum()) / pairs for above in (most, least))
        return Bounded.between(lower, upper)

    def ap(self) -> Bounded:
        """Return the average precision: the mean over novel pixels of precision at their score.

        The upper bound of a bin counts with it all novel pixels that may be above, and only the
        known pixels that must be. The lower bound is the other way round, the bin's own pixels
        one after the other: their mean precision is no less than that of the first and the last.
        """
        return Bounded.between(self._least_precision(), self._most_precision())

    def _most_precision(self) -> float:
        true = self._novel.by_high.at_least(self._novel.low)
        reported = true + self._known.by_low.at_least(self._novel.high)
        return _dot(self._novel.counts, true / reported) / self._novel.total

    def _least_precision(self) -> float:
        novel, false = self._novel, self._possible
        true = novel.by_low.at_least(novel.high)
        others = np.where(novel.exact, 0, novel.counts)
        last = _dot(novel.counts, (true + others) / (true + others + false))
        others = np.minimum(others, 1)
        first = _dot(novel.counts, (true + others) / (true + others + false))
        return (first + last) / 2 / novel.total

    def fpr95(self) -> Bounded:
        """Return the false-positive rate at the first threshold with a recall of 95 % or more."""
        known, novel = self._known, self._novel
        place = first_place(novel.total)
        lower = known.by_low.at_least(novel.by_high.key_of(place))
        upper = known.by_high.at_least(novel.by_low.key_of(place))
        likely = known.likely_at_least(novel.likely_key_of(place))
        return Bounded.between(
            int(lower[0]) / known.total, int(upper[0]) / known.total, likely / known.total
        )

    def fpr95_nearest(self) -> Bounded:
        """Return the false-positive rate at the recall nearest to 95 %, as MultiShiftSeg's code.

        Of the recalls that occur it is the one nearest to 0.95, the larger of two, and of the
        thresholds with this recall the lowest; of those with full recall the highest.
        """
        known, novel = self._known, self._novel
        place = first_place(novel.total)
        high, low = novel.by_high.key_of(place), novel.by_low.key_of(place)
        before = [int(pixels.above(key)[0]) for pixels, key in self._extremes(high, low)]
        after = [int(pixels.at_least(key)[0]) for pixels, key in self._extremes(high, low)]
        lower, upper = known.by_low.above(high), known.by_high.above(low)
        certain = bool(high == low) and before[0] == before[1] and after[0] == after[1]
        if not certain or not is_nearer(before[0], after[0], novel.total):
            upper = _false_until(after[1], novel.by_low, known.by_high)
            if certain:
                lower = _false_until(after[0], novel.by_high, known.by_low)
        return Bounded.between(int(lower[0]) / known.total, int(upper[0]) / known.total)

    def _extremes(self, high: Keys, low: Keys) -> tuple[tuple[_Pixels, Keys], ...]:
        """Return what counts the fewest and the most novel pixels over a key within bounds."""
        return (self._novel.by_low, high), (self._novel.by_high, low)


def _dot(counts: Counts, values: NDArray[np.float64]) -> float:
    """Return a weighted sum, of which each machine gives the same digits.

    A product of vectors is summed up by as many threads as there are cores, and waits for them.
    """
    return float((counts * values).sum())


def _part_above(low: Keys, high: Keys, key: int) -> NDArray[np.float64]:
    """Return which part of each interval is at or above a key."""
    width = (high - low).astype(np.float64) + 1
    return np.clip((high.astype(np.float64) - key + 1) / width, 0, 1)


def first_place(positives: int) -> int:
    """Return how many positives it takes for a recall of 95 %."""
    place = max(1, int(RECALL * positives) - 1)
    while place / positives < RECALL:
        place += 1
    return place


def is_nearer(true: int, other: int, positives: int) -> bool:
    """Return whether a recall is nearer to 95 % than another."""
    return abs(true / positives - RECALL) < abs(other / positives - RECALL)


def _false_until(true: int, positives: _Pixels, negatives: _Pixels) -> _Ints:
    """Return the negatives above the positive that follows ``true`` others, if there is one."""
    if true >= positives.total:
        return negatives.at_least(positives.key_of(positives.total))
    return negatives.above(positives.key_of(true + 1))

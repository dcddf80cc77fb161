# SPDX-License-Identifier: Apache-2.0
"""Where the scores lie: histograms by class and by condition, in fixed memory, for charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
import json
import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL
from multishift_perception.metrics import state as metric_state
from multishift_perception.metrics.histogram import ScoreHistogram
from multishift_perception.metrics.score_keys import PIECE, to_keys, to_scores

_BINS = 1 << 13
_ENDS = (0.002, 0.998)
KNOWN_ROW, NOVEL_ROW = 0, 1


class ScoreSpread:
    """Histograms of the scores of some 2^16 pixels of each image, spread evenly over it."""

    def __init__(self) -> None:
        """Start empty."""
        self._by_class: defaultdict[int, ScoreHistogram] = defaultdict(_new)
        self._by_condition: defaultdict[str, ScoreHistogram] = defaultdict(_new)

    def update(self, score: NDArray[np.float32], truth: NDArray[np.uint8], condition: str) -> None:
        """Add an image: score ``[h,w]`` and ground truth ``[h,w]``."""
        # An odd number of pixels apart, so that no column is left out.
        apart = math.ceil(truth.size / PIECE) | 1
        keys, labels = to_keys(score.reshape(-1)[::apart]), truth.reshape(-1)[::apart]
        self._by_condition[condition].add(keys[labels < NOVEL], keys[labels == NOVEL])
        none = keys[:0]
        for value in np.unique(labels[labels <= NOVEL]).tolist():
            self._by_class[value].add(keys[labels == value], none)

    def to_bytes(self) -> bytes:
        """Return what has been counted; who goes on from there ends with the same histograms."""
        histograms = [*self._by_class.values(), *self._by_condition.values()]
        about = {'classes': list(self._by_class), 'conditions': list(self._by_condition)}
        arrays = {
            f'{i}/{name}': array
            for i, histogram in enumerate(histograms)
            for name, array in histogram.to_arrays().items()
        }
        return metric_state.pack('ScoreSpread', {'about': np.array(json.dumps(about)), **arrays})

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the histograms that ``to_bytes`` described.

        Raises:
            ValueError: it describes none.
        """
        arrays = metric_state.unpack('ScoreSpread', state)
        about, spread = json.loads(str(arrays.pop('about'))), cls()
        histograms = [
            *(spread._by_class[value] for value in about['classes']),
            *(spread._by_condition[condition] for condition in about['conditions']),
        ]
        parts: list[dict[str, NDArray[Any]]] = [{} for _ in histograms]
        for name, array in arrays.items():
            place, _, part = name.partition('/')
            parts[int(place)][part] = array
        for histogram, own in zip(histograms, parts, strict=True):
            histogram.from_arrays(own)
        return spread

    @property
    def classes(self) -> tuple[int, ...]:
        """The label values that occur, novel (254) included."""
        return tuple(sorted(self._by_class))

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions, in the order of their first images."""
        return tuple(self._by_condition)

    def of_class(self, value: int, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of a class's pixels between edges ``[K+1]``, ``float64 [K]``."""
        return _shares(self._by_class[value], KNOWN_ROW, edges)

    def of_condition(
        self, condition: str, row: int, edges: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the same for the known or the novel pixels of a condition.

        Args:
            condition: one of ``conditions``.
            row: ``KNOWN_ROW`` or ``NOVEL_ROW``.
            edges: rising, ``float64 [K+1]``.
        """
        return _shares(self._by_condition[condition], row, edges)

    def range(self) -> tuple[float, float]:
        """Return the scores between which nearly all pixels of every class lie, low < high."""
        ends = [_quantiles(histogram, _ENDS) for histogram in self._by_class.values()]
        low = min((low for low, _ in ends), default=0.0)
        high = max((high for _, high in ends), default=0.0)
        return (low, high) if high > low else (low - 0.5, low + 0.5)


def _new() -> ScoreHistogram:
    return ScoreHistogram(_BINS, max_pending=PIECE)


def _scores(histogram: ScoreHistogram) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the middle of each bin ``[B]`` and its counts ``[2,B]``."""
    bins = histogram.bins()
    low, high = to_scores(bins.low, 'float'), to_scores(bins.high, 'float')
    return (low.astype(np.float64) + high) / 2, bins.counts.astype(np.int64)


def _shares(
    histogram: ScoreHistogram, row: int, edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    middles, counts = _scores(histogram)
    filled, _ = np.histogram(middles, edges, weights=counts[row])
    return np.asarray(filled / max(counts[row].sum(), 1), np.float64)


def _quantiles(histogram: ScoreHistogram, shares: Iterable[float]) -> list[float]:
    middles, counts = _scores(histogram)
    order = np.argsort(middles)
    up_to = np.cumsum(counts.sum(0)[order])
    places = np.searchsorted(up_to, [share * up_to[-1] for share in shares])
    return [float(middles[order][place]) for place in places]

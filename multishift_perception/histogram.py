"""A histogram of scores in fixed memory whose bins depend only on the scores seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MAX_BINS = 1 << 18
_MAX_PENDING = 1 << 20


@dataclass(frozen=True)
class Bins:
    """Occupied bins of a histogram, lowest score first.

    Attributes:
        keys: One score of each bin, as an integer of the same order, ``int32 [B]``.
        counts: Known (row 0) and novel (row 1) pixels, ``int64 [2,B]``.
        mixed: Whether a bin holds more than one score, their order lost, ``bool [B]``.
    """

    keys: NDArray[np.int32]
    counts: NDArray[np.int64]
    mixed: NDArray[np.bool_]


class ScoreHistogram:
    """Counts of known and novel pixels by score.

    Scores become integer keys of the same order (``uint8`` as it is, float32 through its bit
    pattern), and a bin is a key without its ``shift`` lowest bits. Only occupied bins are kept,
    2^18 at most (6 MB); the shift grows when there would be more. So up to 260 000 different
    scores are counted exactly, and the content depends neither on the order of the images nor on
    how they were split and merged.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._kind = ''
        self._shift = 0
        self._bins = _pixel_bins([], [])
        self._pending_keys: list[NDArray[np.int32]] = []
        self._pending_novel: list[NDArray[np.bool_]] = []

    def update(self, score: NDArray[np.generic], novel: NDArray[np.bool_]) -> None:
        """Add pixels: ``score`` uint8 or float ``[P]``, ``novel`` bool ``[P]``.

        Raises:
            ValueError: A score is NaN, or of another kind than those before.
        """
        self._take_kind(_kind(score.dtype))
        self._pending_keys.append(_keys(score))
        self._pending_novel.append(novel)
        if sum(keys.size for keys in self._pending_keys) > _MAX_PENDING:
            self.bins()

    def merge(self, other: ScoreHistogram) -> None:
        """Add what another histogram has counted."""
        if other._kind:
            self._take_kind(other._kind)
        more = other.bins()
        self._shift = max(self._shift, other._shift)
        self._fold(more)

    def bins(self) -> Bins:
        """Return the bins of all pixels so far."""
        if self._pending_keys:
            fresh = _pixel_bins(self._pending_keys, self._pending_novel)
            self._pending_keys, self._pending_novel = [], []
            self._fold(fresh)
        return self._bins

    def _take_kind(self, kind: str) -> None:
        if self._kind not in ('', kind):
            raise ValueError(f'cannot mix {kind} scores with {self._kind} scores')
        self._kind = kind

    def _fold(self, more: Bins) -> None:
        order = np.argsort(np.concatenate([self._bins.keys, more.keys]), kind='stable')
        keys = np.concatenate([self._bins.keys, more.keys])[order]
        while np.count_nonzero(np.diff(keys >> self._shift)) >= _MAX_BINS:
            self._shift += 1
        starts = _run_starts(keys >> self._shift)
        counts = np.concatenate([self._bins.counts, more.counts], axis=1)[:, order]
        mixed = np.concatenate([self._bins.mixed, more.mixed])[order]
        if starts.size:  # reduceat needs one run at least
            ends = np.append(starts[1:], keys.size) - 1
            counts = np.add.reduceat(counts, starts, axis=1)
            mixed = np.logical_or.reduceat(mixed, starts) | (keys[starts] != keys[ends])
        self._bins = Bins(keys[starts], counts, mixed)


def _pixel_bins(keys: list[NDArray[np.int32]], novel: list[NDArray[np.bool_]]) -> Bins:
    """Count pixels by key."""
    # The kind of the pixel rides in the lowest bit: one plain sort is all it takes.
    pixels = np.concatenate([np.zeros(0, np.int64), *keys]) * 2
    pixels += np.concatenate([np.zeros(0, bool), *novel])
    pixels.sort()
    starts = _run_starts(pixels >> 1)
    total = np.diff(np.append(starts, pixels.size))
    novels = np.add.reduceat(pixels & 1, starts) if starts.size else total
    unique = (pixels[starts] >> 1).astype(np.int32)
    return Bins(unique, np.stack([total - novels, novels]), np.zeros(unique.size, bool))


def _run_starts(values: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return where each run of equal values begins."""
    if not values.size:
        return np.zeros(0, np.intp)
    return np.append(0, np.flatnonzero(np.diff(values)) + 1)


def _kind(dtype: np.dtype[np.generic]) -> str:
    if dtype == np.uint8:
        return 'uint8'
    if np.issubdtype(dtype, np.floating):
        return 'float'
    raise ValueError(f'scores must be uint8 or float, not {dtype}')


def _keys(score: NDArray[np.generic]) -> NDArray[np.int32]:
    """Return integers that keep the order of the scores."""
    if score.dtype == np.uint8:
        return score.astype(np.int32)
    floats = score.astype(np.float32)
    if np.isnan(floats).any():
        raise ValueError('a score is NaN')
    # The bit patterns of positive floats are in the order of their values.
    size = np.abs(floats).view(np.int32)
    return np.where(floats < 0, -size, size)

# SPDX-License-Identifier: Apache-2.0
"""Scores as integers of the same order, gathered pixel by pixel of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from time import thread_time

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL
from multishift_perception.metrics.checks import check_shapes

Score = NDArray[np.uint8] | NDArray[np.floating]
Keys = NDArray[np.uint32]

PIECE = 1 << 16  # pixels handled at once: their temporary arrays fit into a core's cache
_SIGN = np.uint32(1 << 31)
_MANY = 1 << 12  # keys for which a call of OpenCV pays
_MINUS_INFINITY, _INFINITY = 0x007FFFFF, 0xFF800000  # as keys


class KeyBuffer:
    """Collects the keys of known and of novel pixels up to a number."""

    def __init__(self, size: int) -> None:
        """Start empty; ``size`` pixels fit."""
        self._size = size
        # One array for both, known pixels from the front and novel ones from the back.
        self._keys = np.zeros(0, np.uint32)
        self._known, self._novel = 0, size

    def fits(self, pixels: int) -> bool:
        """Return whether there is room for so many more."""
        return self._novel - self._known >= pixels

    def append(self, known: Keys, novel: Keys) -> None:
        """Add pixels for which there is room."""
        if not self._keys.size:
            self._keys = np.empty(self._size, np.uint32)
        self._keys[self._known : self._known + known.size] = known
        self._keys[self._novel - novel.size : self._novel] = novel
        self._known += known.size
        self._novel -= novel.size

    def sorted(self) -> tuple[Keys, Keys]:
        """Return the keys of known and of novel pixels, sorted; they stay."""
        known, novel = self._keys[: self._known], self._keys[self._novel :]
        return _sorted_in_place(known), _sorted_in_place(novel)

    def empty(self) -> tuple[Keys, Keys]:
        """Return the keys of known and of novel pixels, sorted, and keep no memory for them."""
        known, novel = self.sorted()
        self._keys = np.zeros(0, np.uint32)
        self._known, self._novel = 0, self._size
        return known, novel


def _sorted_in_place(keys: Keys) -> Keys:
    """Sort keys where they are, and return them."""
    if keys.size < _MANY or not _radix_sort_is_faster():
        keys.sort()
    else:
        _sort_by_radix(keys)
    return keys


def _sort_by_radix(keys: Keys) -> None:
    keys ^= _SIGN  # as signed numbers they are in the same order
    signed = keys.view(np.int32).reshape(1, -1)
    cv2.sort(signed, cv2.SORT_EVERY_ROW, dst=signed)
    keys ^= _SIGN


@cache
def _radix_sort_is_faster() -> bool:
    """Return whether Intel's sort in OpenCV takes less time than NumPy's here, as a trial tells.

    It takes 5 ns a key on every x86; NumPy's 2 on most, but 30 on AMD's Zen 4, whose vector
    compression into memory is slow. OpenCV's own takes more than 50. Either gives the same keys.
    """
    if not cv2.ipp.useIPP():
        return False
    mixed = np.random.default_rng(0).integers(1 << 32, size=PIECE, dtype=np.uint32)
    times: dict[Callable[[Keys], None], list[float]] = {np.ndarray.sort: [], _sort_by_radix: []}
    for _ in range(3):
        for sort, taken in times.items():
            keys = mixed.copy()
            start = thread_time()
            sort(keys)
            taken.append(thread_time() - start)
    return min(times[_sort_by_radix]) < min(times[np.ndarray.sort])


def kind_of(score: Score) -> str:
    """Return ``'uint8'`` or ``'float'``.

    Raises:
        ValueError: the scores are neither.
    """
    if score.dtype == np.uint8:
        return 'uint8'
    if np.issubdtype(score.dtype, np.floating):
        return 'float'
    raise ValueError(f'scores must be uint8 or float, not {score.dtype}')


def common_kind(kind: str, other: str) -> str:
    """Return the kind of scores of two sources, of which one may have none yet (``''``).

    Raises:
        ValueError: the kinds differ.
    """
    if kind and other and kind != other:
        raise ValueError(f'cannot mix {other} scores with {kind} scores')
    return kind or other


def pieces(score: Score, truth: NDArray[np.uint8]) -> Iterator[tuple[Keys, Keys]]:
    """Yield the keys of known (below 254) and of novel (254) pixels, some 10^4 at a time.

    Raises:
        ValueError: the shapes differ, or the score of a known or novel pixel is NaN or infinite.
    """
    check_shapes(score, truth)
    scores, labels = score.reshape(-1), truth.reshape(-1)
    if score.dtype != np.uint8:
        _check_finite(scores, labels)
    for start in range(0, scores.size, PIECE):
        keys = to_keys(scores[start : start + PIECE])
        part = labels[start : start + PIECE]
        if part.max() < NOVEL:
            yield keys, keys[:0]
        else:
            yield keys[part < NOVEL], keys[part == NOVEL]


def to_keys(score: Score) -> Keys:
    """Return integers in the order of the scores, equal where the scores are (0 and -0 too).

    ``uint8`` scores are their own keys; other scores are compared as float32.
    """
    if score.dtype == np.uint8:
        return score.astype(np.uint32)
    # Bit patterns of floats are in the order of their values, backwards where negative. Adding
    # zero makes -0 a 0.
    bits = (score.astype(np.float32, copy=False) + np.float32(0)).view(np.int32)
    return bits.view(np.uint32) ^ ((bits >> 31).view(np.uint32) | _SIGN)


def to_scores(keys: NDArray[np.integer], kind: str) -> NDArray[np.float32]:
    """Return the scores that have these keys."""
    unsigned = keys.astype(np.uint32)
    if kind == 'uint8':
        return unsigned.astype(np.float32)
    return np.where(unsigned & _SIGN, unsigned ^ _SIGN, ~unsigned).view(np.float32)


def _check_finite(scores: NDArray[np.generic], labels: NDArray[np.uint8]) -> None:
    # Before anything is counted, so that a refused image leaves the metrics as they were.
    for start in range(0, scores.size, PIECE):
        part = labels[start : start + PIECE] <= NOVEL
        with np.errstate(over='ignore', invalid='ignore'):
            values = scores[start : start + PIECE].astype(np.float32, copy=False)
            # A sum is finite only if all of its terms are, and costs a fraction.
            total = values.sum()
        if not np.isfinite(total) and not np.isfinite(values[part]).all():
            raise ValueError('a score is NaN or infinite')

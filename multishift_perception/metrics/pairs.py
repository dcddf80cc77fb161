# SPDX-License-Identifier: Apache-2.0
"""How often pixels of two images have each pair of values: what most figures of pixels are of."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes

# Pixels at a time: OpenCV counts in float32, which is exact up to here.
_PIECE = 1 << 24
# Where runs of equal pairs are shorter on average, pixels are counted one by one.
_LEAST_RUN = 8


def count_pairs(first: Bytes, second: Bytes, *, firsts: int = 256) -> NDArray[np.int64]:
    """Return how many pixels have each pair of values.

    Args:
        first: values ``0..firsts-1``, ``uint8 [...]``: the rows of the result.
        second: ``uint8`` of the same shape: the columns.
        firsts: how many values the first image may have.

    Returns:
        ``int64 [firsts,256]``.
    """
    counts = np.zeros((firsts, 256), np.int64)
    one, other = first.reshape(1, -1), second.reshape(1, -1)
    for start in range(0, one.size, _PIECE):
        _add_pairs(counts, one[:, start : start + _PIECE], other[:, start : start + _PIECE])
    return counts


def _add_pairs(counts: NDArray[np.int64], first: Bytes, second: Bytes) -> None:
    pairs = cv2.merge([second, first]).view('<u2').reshape(-1)
    changes = pairs[1:] != pairs[:-1]
    if np.count_nonzero(changes) * _LEAST_RUN < pairs.size:
        # Labels are alike over many pixels of a row: the ends of runs say how many.
        ends = np.append(np.flatnonzero(changes), pairs.size - 1)
        np.add.at(counts.reshape(-1), pairs[ends], np.diff(ends, prepend=-1))
    else:
        rows = len(counts)
        found = cv2.calcHist([first, second], [0, 1], None, [rows, 256], [0, rows, 0, 256])
        counts += found.astype(np.int64)

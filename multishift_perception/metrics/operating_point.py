# SPDX-License-Identifier: Apache-2.0
"""How well the anomaly mask at one threshold finds novel pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL
from multishift_perception.metrics import state as metric_state
from multishift_perception.metrics.checks import check_shapes, ratio


@dataclass(frozen=True)
class OperatingResult:
    """The anomaly mask at its threshold, by pixel: true- and false-positive rate, precision."""

    tpr: float | None
    fpr: float | None
    precision: float | None


class OperatingPoint:
    """Pixel rates of an anomaly mask: novel (254) are positives, known negatives, void neither."""

    def __init__(self) -> None:
        """Start empty."""
        self._counts = np.zeros((2, 2), np.int64)  # [truth is novel, mask is set]

    def update(self, mask: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Add an image: ``mask`` is non-zero where an anomaly is reported."""
        check_shapes(mask, truth)
        marked = mask != 0
        for row, pixels in enumerate((truth < NOVEL, truth == NOVEL)):
            found = np.count_nonzero(pixels & marked)
            self._counts[row] += (np.count_nonzero(pixels) - found, found)

    def merge(self, *others: Self) -> None:
        """Add what other objects have counted."""
        for other in others:
            self._counts += other._counts

    def to_bytes(self) -> bytes:
        """Return what has been counted."""
        return metric_state.pack('OperatingPoint', {'counts': self._counts})

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the rates that ``to_bytes`` described.

        Raises:
            ValueError: it describes no operating point.
        """
        point = cls()
        point._counts += metric_state.unpack('OperatingPoint', state)['counts']
        return point

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Pixels counted: known and novel (rows), without and with mask, ``int64 [2,2]``."""
        return self._counts

    def result(self) -> OperatingResult:
        """Return the rates over all images so far."""
        (_, false), (missed, found) = self._counts.tolist()
        known = sum(self._counts[0].tolist())
        return OperatingResult(
            tpr=ratio(found, found + missed),
            fpr=ratio(false, known),
            precision=ratio(found, found + false),
        )

# SPDX-License-Identifier: Apache-2.0
"""Numbers boxes, so that what is seen again has the number that it had."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

# Left, top, width, height; pixels.
Box = tuple[int, int, int, int]

# Boxes are compared as if they were wider and taller by their own size: small ones move by more
# than that from frame to frame, and would not overlap.
_GROWN = 1.0
_LEAST_OVERLAP = 0.1
# Frames that a box may be missing without losing its number.
_PATIENCE = 5


@dataclass
class _Track:
    number: int
    box: Box
    hits: int = 1
    missed: int = 0


def match_in_order(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return the track of each box that has one, each track and each box once.

    Args:
        pairs: tracks and boxes that may belong together, the likeliest pair first.
    """
    matched: dict[int, int] = {}
    taken: set[int] = set()
    for track, box in pairs:
        if track not in taken and box not in matched:
            matched[box] = track
            taken.add(track)
    return matched


class Tracker:
    """Follows the boxes of one camera, by their overlap from frame to frame.

    It decides what is called by one number on the vehicle, and may be tuned for that;
    ``ObjectLog`` decides what counts once in a report, which no tuning here may change.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._tracks: list[_Track] = []
        self._numbers = count(1)

    def follow(self, boxes: Sequence[Box], min_hits: int = 1) -> list[int | None]:
        """Return the numbers of a frame's boxes, in their order.

        The pair that overlaps most is matched first.

        Args:
            boxes: of the frame.
            min_hits: frames that a box must have been seen in before it has a number.

        Returns:
            Number of each box; None of one that has none yet.
        """
        overlaps = _overlaps([track.box for track in self._tracks], boxes)
        rows, columns = np.nonzero(overlaps >= _LEAST_OVERLAP)
        best_first = np.argsort(-overlaps[rows, columns], kind='stable')
        pairs = zip(rows[best_first].tolist(), columns[best_first].tolist(), strict=True)
        matched = {box: self._tracks[track] for box, track in match_in_order(pairs).items()}
        for track in self._tracks:
            track.missed += 1
        for j, track in matched.items():
            track.box = boxes[j]
            track.hits += 1
            track.missed = 0
        self._tracks = [track for track in self._tracks if track.missed <= _PATIENCE]
        for j, box in enumerate(boxes):
            if j not in matched:
                matched[j] = _Track(next(self._numbers), box)
                self._tracks.append(matched[j])
        return [
            matched[j].number if matched[j].hits >= min_hits else None for j in range(len(boxes))
        ]


def _overlaps(ones: Sequence[Box], others: Sequence[Box]) -> NDArray[np.float64]:
    """Return intersection over union of each two boxes, grown about their centres, ``[M,N]``."""
    (low, high), (other_low, other_high) = _grown(ones), _grown(others)
    shared = np.minimum(high[:, None], other_high) - np.maximum(low[:, None], other_low)
    both = np.maximum(shared, 0).prod(2)
    areas = (high - low).prod(1)[:, None] + (other_high - other_low).prod(1)
    return np.asarray(both / (areas - both))


def _grown(boxes: Sequence[Box]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return upper left and lower right corners, ``[N,2]`` each."""
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    low, size = corners[:, :2], corners[:, 2:]
    return low - _GROWN / 2 * size, low + (1 + _GROWN / 2) * size

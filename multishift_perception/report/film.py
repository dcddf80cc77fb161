# SPDX-License-Identifier: Apache-2.0
"""Frames at even distances over a whole drive, however long it is, for a slider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from multishift_perception.report.frame_table import FrameRecord
from multishift_perception.report.pictures import Picture


class Film:
    """Keeps every n-th frame of each camera; n grows with the drive, so that memory does not.

    Attributes:
        expected: how many pictures there will be if the drive has the frames that it is thought
            to have.
    """

    def __init__(self, limit: int, *, frames: int | None = None) -> None:
        """Start empty.

        Args:
            limit: pictures at most.
            frames: how many frames the drive is thought to have; None where nobody knows.
        """
        self._limit = limit
        self._step = max(1, -(-(frames or 0) // limit))
        self.expected = -(-frames // self._step) if frames else limit
        self._seen: Counter[str] = Counter()
        self._kept: list[tuple[int, Picture]] = []

    def offer(self, record: FrameRecord, draw: Callable[[], Picture]) -> None:
        """Consider a frame; ``draw`` returns its picture and is called only if it is kept."""
        number = self._seen[record.camera]
        self._seen[record.camera] += 1
        if number % self._step:
            return
        self._kept.append((number, draw()))
        if len(self._kept) > self._limit:
            self._step *= 2
            self._kept = [kept for kept in self._kept if kept[0] % self._step == 0]

    def pictures(self) -> tuple[Picture, ...]:
        """Return the pictures in the order of the frames."""
        return tuple(picture for _, picture in self._kept)

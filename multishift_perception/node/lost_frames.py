# SPDX-License-Identifier: Apache-2.0
"""Frames that were sent and never came: numbered by their publisher, and not received."""

from __future__ import annotations

from threading import Lock


class LostFrames:
    """Compares the numbers of one publisher's frames with how many of them were received."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._lock = Lock()
        self._first: int | None = None
        self._last = self._lost = 0
        self.received = 0

    def forget(self) -> None:
        """Start anew: what comes next is of another publisher, or of nobody knows which."""
        with self._lock:
            self._first = None

    def receive(self, count: int) -> None:
        """Note frames that were received, whether they are looked at or not."""
        with self._lock:
            self.received += count

    def lost_before(
        self, number: int, *, later: int = 0, is_noted: bool = True
    ) -> tuple[int, int]:
        """Return how many frames turn out to be lost now that this one is looked at.

        Args:
            number: of the frame; one that is not larger than the last is a publisher's that has
                started again.
            later: how many of those that ``receive`` was told of may have come after this one.
            is_noted: whether ``receive`` must have been told of this one. A frame that is taken
                while it comes may never be told of.

        Returns:
            That number, and 1 if this one was received without a note of it, else 0.
        """
        with self._lock:
            if self._first is None or number <= self._last:
                self._first, self.received, self._lost = number, later, 0
            self._last = number
            missing = number - self._first - self.received - self._lost
            unnoted = int(missing > 0 and not is_noted)
            self.received += unnoted
            # Fewer than none where frames have come after this one: their numbers will follow.
            lost = max(missing - unnoted, 0)
            self._lost += lost
            return lost, unnoted

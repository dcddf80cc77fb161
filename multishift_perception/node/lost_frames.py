# SPDX-License-Identifier: Apache-2.0
"""Frames that were sent and never came: gaps in the numbers of a publisher's messages."""

from __future__ import annotations


class SequenceGaps:
    """Finds the gaps in the numbers of one publisher's messages."""

    def __init__(self) -> None:
        """Start before the first message."""
        self._last: int | None = None

    def forget(self) -> None:
        """Start anew: what comes next is of another publisher, or of nobody knows which."""
        self._last = None

    def lost_before(self, number: int) -> int:
        """Return how many messages are missing between the last one and this.

        A number that is not larger than the last is a publisher's that has started again.
        """
        last, self._last = self._last, number
        return 0 if last is None or number <= last else number - last - 1

# SPDX-License-Identifier: Apache-2.0
"""What happened in the last seconds: the one kind of rolling statistics."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

# Rates, percentiles and levels speak of this many last seconds.
WINDOW_S = 5.0

Event = TypeVar('Event')


class Recent(Generic[Event]):
    """The events of the last ``WINDOW_S`` seconds; guarded by whoever owns it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start empty.

        Args:
            clock: steady time in seconds.
        """
        self._clock = clock
        self._events: deque[tuple[float, Event]] = deque()

    def add(self, event: Event) -> None:
        """Note that something happened now."""
        now = self._clock()
        self._events.append((now, event))
        self._forget(now)

    def clear(self) -> None:
        """Forget all."""
        self._events.clear()

    def events(self) -> list[Event]:
        """Return what happened recently, the oldest first."""
        self._forget(self._clock())
        return [event for _, event in self._events]

    def _forget(self, now: float) -> None:
        oldest = now - WINDOW_S
        while self._events and self._events[0][0] < oldest:
            self._events.popleft()


@dataclass(frozen=True)
class Percentiles:
    """Median, 95th and 99th percentile in milliseconds; None where nothing was measured."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Percentiles:
        """Summarise durations given in seconds."""
        if not seconds:
            return cls()
        return cls(*map(float, np.percentile(seconds, [50, 95, 99]) * 1000))

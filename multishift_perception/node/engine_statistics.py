# SPDX-License-Identifier: Apache-2.0
"""What happened to the engine calls: their sizes, durations and faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median_low
from threading import Lock

from multishift_perception.node.recent import WINDOW_S, Percentiles, Recent

# A stage of a turn that takes this long must be stuck ...
STUCK_S = 1.5
# ... but a call of the engine only if it takes this many times as long as is usual, too.
_STUCK_FACTOR = 5.0


@dataclass(frozen=True)
class EngineReport:
    """The engine's statistics; "recent" is the last ``WINDOW_S`` seconds.

    Attributes:
        calls: engine calls since the node was configured.
        calls_hz: recent calls per second.
        frames_per_call: recent mean of the cameras' frames in a call whose turn has ended; None
            without one.
        call_time: recent duration of the engine's call alone.
        turn_time: recent duration of a turn: decoding, call, publishing.
        capacity_hz: frames per second that fit into the recent turns, one after the other; None
            without a turn.
        faults: calls that failed since the node was configured.
        recent_faults: calls that failed recently.
        last_fault: the last one's exception.
    """

    calls: int
    calls_hz: float
    frames_per_call: float | None
    call_time: Percentiles
    turn_time: Percentiles
    capacity_hz: float | None
    faults: int
    recent_faults: int
    last_fault: str


class EngineStatistics:
    """Counts engine calls; every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float], usual_s: float = 0.0) -> None:
        """Start empty.

        Args:
            clock: steady time in seconds.
            usual_s: what the slowest call took when the engine was warmed up, in seconds.
        """
        self._clock = clock
        self._usual_s = usual_s
        self._lock = Lock()
        self._calls = self._faults = 0
        self._recent: Recent[float] = Recent(clock)
        self._turns: Recent[tuple[int, float]] = Recent(clock)
        self._recent_faults: Recent[str] = Recent(clock)
        self._last_fault = ''

    @contextmanager
    def call(self) -> Iterator[None]:
        """Time one call of the engine; one that fails is not counted here."""
        begin = self._clock()
        yield
        with self._lock:
            self._calls += 1
            self._recent.add(self._clock() - begin)

    def fail(self, error: Exception) -> bool:
        """Count a call that failed; returns whether it was the first."""
        with self._lock:
            self._faults += 1
            self._last_fault = f'{type(error).__name__}: {error}'
            self._recent_faults.add(self._last_fault)
            return self._faults == 1

    def turn(self, frames: int, seconds: float) -> None:
        """Note that so many frames went through an engine call and were published in a time."""
        with self._lock:
            self._turns.add((frames, seconds))

    @property
    def stuck_after_s(self) -> float:
        """How long a call may take before it must be stuck, by what calls have taken."""
        with self._lock:
            # One call that hung and returned says nothing of the next; many slow ones do.
            recent = median_low([self._usual_s, *self._recent.events()])
            return max(STUCK_S, _STUCK_FACTOR * max(self._usual_s, recent))

    def report(self) -> EngineReport:
        """Summarise."""
        with self._lock:
            calls, turns = self._recent.events(), self._turns.events()
            frames, busy = sum(n for n, _ in turns), sum(seconds for _, seconds in turns)
            # Not the calls: the turn of the latest one may not have ended.
            filled = sum(n > 0 for n, _ in turns)
            return EngineReport(
                calls=self._calls,
                calls_hz=len(calls) / WINDOW_S,
                frames_per_call=frames / filled if filled else None,
                call_time=Percentiles.of(calls),
                turn_time=Percentiles.of([seconds for _, seconds in turns]),
                capacity_hz=frames / busy if busy else None,
                faults=self._faults,
                recent_faults=len(self._recent_faults.events()),
                last_fault=self._last_fault,
            )

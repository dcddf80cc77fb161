# SPDX-License-Identifier: Apache-2.0
"""What happened to the engine calls: their sizes, durations and faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from multishift_perception.node.recent import Percentiles, Recent


@dataclass(frozen=True)
class EngineReport:
    """The engine's statistics; "recent" is the last ``WINDOW_S`` seconds.

    Attributes:
        calls: engine calls since the node was configured.
        mean_batch: recent mean of frames per call; None without a call.
        call_time: recent duration of a call.
        faults: calls that failed since the node was configured.
        recent_faults: calls that failed recently.
        last_fault: the last one's exception.
    """

    calls: int
    mean_batch: float | None
    call_time: Percentiles
    faults: int
    recent_faults: int
    last_fault: str


class EngineStatistics:
    """Counts engine calls; every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start empty.

        Args:
            clock: steady time in seconds.
        """
        self._clock = clock
        self._lock = Lock()
        self._calls = self._faults = 0
        self._recent: Recent[tuple[int, float]] = Recent(clock)
        self._recent_faults: Recent[str] = Recent(clock)
        self._last_fault = ''

    @contextmanager
    def call(self, frames: int) -> Iterator[None]:
        """Time a call with a number of frames; an exception counts as fault, and goes on."""
        begin = self._clock()
        try:
            yield
        except Exception as error:
            with self._lock:
                self._faults += 1
                self._last_fault = f'{type(error).__name__}: {error}'
                self._recent_faults.add(self._last_fault)
            raise
        with self._lock:
            self._calls += 1
            self._recent.add((frames, self._clock() - begin))

    def report(self) -> EngineReport:
        """Summarise."""
        with self._lock:
            recent = self._recent.events()
            return EngineReport(
                calls=self._calls,
                mean_batch=sum(frames for frames, _ in recent) / len(recent) if recent else None,
                call_time=Percentiles.of([seconds for _, seconds in recent]),
                faults=self._faults,
                recent_faults=len(self._recent_faults.events()),
                last_fault=self._last_fault,
            )

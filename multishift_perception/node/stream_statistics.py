"""What happened to one camera's frames: rates, latencies, and drops by cause."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np

# Rates, percentiles and levels speak of this many last seconds.
WINDOW_S = 5.0


@dataclass(frozen=True)
class Percentiles:
    """Median and 99th percentile in milliseconds; None where nothing was measured."""

    p50: float | None
    p99: float | None

    @classmethod
    def of(cls, seconds: list[float]) -> Percentiles:
        """Summarise durations given in seconds."""
        if not seconds:
            return cls(None, None)
        p50, p99 = np.percentile(seconds, [50, 99]) * 1000
        return cls(float(p50), float(p99))


@dataclass(frozen=True)
class StreamReport:
    """One camera's statistics; "recent" is the last ``WINDOW_S`` seconds.

    Attributes:
        watched_s: seconds since the input was subscribed; None while it is not.
        silent_s: seconds since the last frame, or since the subscription without one.
        received: frames received since the node was configured.
        processed: frames whose outputs were published.
        dropped: frames dropped, by cause.
        received_hz: recent rate of arrival.
        processed_hz: recent rate of publication.
        recent_received: frames received recently.
        recent_dropped: frames dropped recently, by cause.
        from_stamp: recent latency from header stamp to publication.
        from_receipt: recent latency from arrival to publication.
        stamp_fault: what is recently wrong with the header stamps, None if nothing is.
        received_since_watched: whether a frame has come since the input was subscribed.
    """

    watched_s: float | None
    silent_s: float
    received: int
    processed: int
    dropped: dict[str, int]
    received_hz: float
    processed_hz: float
    recent_received: int
    recent_dropped: dict[str, int]
    from_stamp: Percentiles
    from_receipt: Percentiles
    stamp_fault: str | None
    received_since_watched: bool


class StreamStatistics:
    """Counts one camera's frames; every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start empty.

        Args:
            clock: steady time in seconds.
        """
        self._clock = clock
        self._lock = Lock()
        self._watched_at: float | None = None
        self._last_received: float | None = None
        self._received = self._processed = 0
        self._dropped: Counter[str] = Counter()
        self._arrivals: deque[float] = deque()
        self._drops: deque[tuple[float, str]] = deque()
        self._latencies: deque[tuple[float, float, float | None]] = deque()
        self._stamp_faults: deque[tuple[float, str]] = deque()

    def watch(self, watched: bool) -> None:
        """Note that the input is subscribed, or no longer."""
        with self._lock:
            self._watched_at = self._clock() if watched else None
            self._last_received = None

    def receive(self) -> None:
        """Count an arrival."""
        with self._lock:
            now = self._clock()
            self._received += 1
            self._last_received = now
            self._arrivals.append(now)
            self._forget(now)

    def drop(self, cause: str) -> None:
        """Count a dropped frame."""
        with self._lock:
            now = self._clock()
            self._dropped[cause] += 1
            self._drops.append((now, cause))
            self._forget(now)

    def note_stamp(self, fault: str) -> None:
        """Note that a frame's stamp cannot be right."""
        with self._lock:
            self._stamp_faults.append((self._clock(), fault))

    def process(self, from_receipt: float, from_stamp: float | None) -> None:
        """Count a frame whose outputs are published.

        Args:
            from_receipt: seconds since its arrival.
            from_stamp: seconds since its header stamp; None where that cannot be told.
        """
        with self._lock:
            now = self._clock()
            self._processed += 1
            self._latencies.append((now, from_receipt, from_stamp))
            self._forget(now)

    def report(self) -> StreamReport:
        """Summarise."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            watched = None if self._watched_at is None else now - self._watched_at
            # Just after the subscription the window is shorter, but rates need some time.
            span = WINDOW_S if watched is None else min(WINDOW_S, max(watched, 1.0))
            since = self._last_received if self._last_received is not None else self._watched_at
            return StreamReport(
                watched_s=watched,
                silent_s=0.0 if since is None else now - since,
                received=self._received,
                processed=self._processed,
                dropped=dict(self._dropped),
                received_hz=len(self._arrivals) / span,
                processed_hz=len(self._latencies) / span,
                recent_received=len(self._arrivals),
                recent_dropped=dict(Counter(cause for _, cause in self._drops)),
                from_stamp=Percentiles.of([s for _, _, s in self._latencies if s is not None]),
                from_receipt=Percentiles.of([r for _, r, _ in self._latencies]),
                stamp_fault=self._stamp_faults[-1][1] if self._stamp_faults else None,
                received_since_watched=self._last_received is not None,
            )

    def _forget(self, now: float) -> None:
        """Drop what is older than the window."""
        oldest = now - WINDOW_S
        while self._arrivals and self._arrivals[0] < oldest:
            self._arrivals.popleft()
        for events in (self._drops, self._latencies, self._stamp_faults):
            while events and events[0][0] < oldest:
                events.popleft()

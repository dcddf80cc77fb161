# SPDX-License-Identifier: Apache-2.0
"""What happened to one camera's frames: rates, latencies, and drops by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from multishift_perception.frame_tally import Drop
from multishift_perception.node.activity import Stage
from multishift_perception.node.look_watch import LookWatch
from multishift_perception.node.recent import WINDOW_S, Percentiles, Recent


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
        stages: what of it each stage took.
        lost: frames that a publisher sent and the middleware did not hand over.
        recent_lost: those of them that were lost recently.
        stamp_fault: what is recently wrong with the header stamps, None if nothing is.
        received_since_watched: whether a frame has come since the input was subscribed.
        covariate_shift: smoothed distance of the frames' look from what the engine knows; None
            where it does not tell, or no frame has come.
        is_strange: whether the look has left what the engine knows, and not come back.
    """

    watched_s: float | None
    silent_s: float
    received: int
    processed: int
    dropped: Mapping[str, int]
    received_hz: float
    processed_hz: float
    recent_received: int
    recent_dropped: Mapping[str, int]
    from_stamp: Percentiles
    from_receipt: Percentiles
    stages: Mapping[Stage, Percentiles]
    lost: int
    recent_lost: int
    stamp_fault: str | None
    received_since_watched: bool
    covariate_shift: float | None = None
    is_strange: bool = False


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
        self._arrivals: Recent[int] = Recent(clock)
        self._drops: Recent[tuple[str, int]] = Recent(clock)
        self._lost = 0
        self._losses: Recent[int] = Recent(clock)
        self._latencies: Recent[tuple[float, float | None, Mapping[Stage, float]]] = Recent(clock)
        self._stamp_faults: Recent[str] = Recent(clock)
        self._look = LookWatch(clock)

    def watch(self, watched: bool) -> None:
        """Note that the input is subscribed, or no longer."""
        with self._lock:
            self._watched_at = self._clock() if watched else None
            self._last_received = None
            # Rates are over the time since now: what came before would make them too high.
            self._arrivals.clear()
            self._latencies.clear()
            self._look.forget()

    def receive(self, count: int = 1) -> None:
        """Count frames that have come now."""
        with self._lock:
            self._received += count
            self._last_received = self._clock()
            self._arrivals.add(count)

    def lose(self, count: int) -> None:
        """Count frames that were sent and never came."""
        with self._lock:
            self._lost += count
            self._losses.add(count)

    def drop(self, cause: Drop, count: int = 1) -> None:
        """Count dropped frames."""
        with self._lock:
            self._dropped[cause] += count
            self._drops.add((cause, count))

    def note_stamp(self, fault: str) -> None:
        """Note that a frame's stamp cannot be right."""
        with self._lock:
            self._stamp_faults.add(fault)

    def note_look(self, distance: float) -> None:
        """Note how far a frame's look lies from what the engine knows."""
        with self._lock:
            self._look.add(distance)

    def process(
        self, received_at: float, from_stamp: float | None, stages: Mapping[Stage, float]
    ) -> None:
        """Count a frame whose outputs are published.

        Args:
            received_at: when it arrived, on the clock of these statistics.
            from_stamp: seconds since its header stamp; None where that cannot be told.
            stages: seconds of each stage that it went through.
        """
        with self._lock:
            self._processed += 1
            self._latencies.add((self._clock() - received_at, from_stamp, stages))

    def report(self) -> StreamReport:
        """Summarise."""
        with self._lock:
            now = self._clock()
            watched = None if self._watched_at is None else now - self._watched_at
            # Just after the subscription the window is shorter, but rates need some time.
            span = WINDOW_S if watched is None else min(WINDOW_S, max(watched, 1.0))
            since = self._last_received if self._last_received is not None else self._watched_at
            arrivals, latencies = sum(self._arrivals.events()), self._latencies.events()
            dropped: Counter[str] = Counter()
            for cause, count in self._drops.events():
                dropped[cause] += count
            stamp_faults = self._stamp_faults.events()
            return StreamReport(
                watched_s=watched,
                silent_s=0.0 if since is None else now - since,
                received=self._received,
                processed=self._processed,
                dropped=dict(self._dropped),
                received_hz=arrivals / span,
                processed_hz=len(latencies) / span,
                recent_received=arrivals,
                recent_dropped=dropped,
                from_stamp=Percentiles.of([s for _, s, _ in latencies if s is not None]),
                from_receipt=Percentiles.of([r for r, _, _ in latencies]),
                stages={
                    stage: Percentiles.of([s[stage] for _, _, s in latencies if stage in s])
                    for stage in Stage
                },
                lost=self._lost,
                recent_lost=sum(self._losses.events()),
                stamp_fault=stamp_faults[-1] if stamp_faults else None,
                received_since_watched=self._last_received is not None,
                covariate_shift=self._look.distance,
                is_strange=self._look.is_strange,
            )

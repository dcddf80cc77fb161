# SPDX-License-Identifier: Apache-2.0
"""When an engine whose calls go on failing is loaded anew: seldom, and not for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# So many calls without a good one between them are no accident.
PERSISTENT = 3
# How long each attempt waits: loading takes seconds and memory. After the last there is no other.
WAITS_S = (1, 2, 4, 8, 16)
MOST_ATTEMPTS = len(WAITS_S)
# An engine that has worked for this long is well again; one that fails sooner was not mended.
_WELL_S = 60.0


@dataclass(frozen=True)
class RestartReport:
    """What became of the attempts.

    Attributes:
        attempts: attempts since the engine last worked for a minute.
        reloads: times that the engine was loaded anew since the node was configured.
        failures: calls that failed since the last good one.
        loading_s: seconds since the attempt at hand began; None if none is.
        wait_s: seconds to the next attempt; None if none is due.
        is_given_up: whether there will be no further attempt.
        fault: why the last attempt failed; empty if it did not.
    """

    attempts: int
    reloads: int
    failures: int
    loading_s: float | None
    wait_s: float | None
    is_given_up: bool
    fault: str


class EngineRestart:
    """Counts failing calls and attempts; told by the worker, asked by any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start with an engine that works.

        Args:
            clock: steady time in seconds.
        """
        self._clock = clock
        self._failures = self._attempts = self._reloads = 0
        self._due_at: float | None = None
        self._loading_since: float | None = None
        self._well_since: float | None = None
        self._fault = ''

    def succeed(self) -> None:
        """Note a call that went well."""
        self._failures, self._due_at = 0, None
        if not self._attempts:
            return
        now = self._clock()
        if self._well_since is None:
            self._well_since = now
        elif now - self._well_since > _WELL_S:
            self._attempts = 0

    def fail(self) -> None:
        """Note a call that failed."""
        self._well_since = None
        self._failures += 1
        if self._failures >= PERSISTENT and self._due_at is None:
            self._schedule()

    def is_due(self) -> bool:
        """Return whether the engine should be loaded anew now."""
        return self._due_at is not None and self._clock() >= self._due_at

    def begin(self) -> int:
        """Note that an attempt begins; returns its number, from 1."""
        self._attempts += 1
        self._due_at, self._loading_since = None, self._clock()
        return self._attempts

    def end(self, fault: str = '') -> None:
        """Note that the attempt ended, well unless a fault is given."""
        self._loading_since, self._fault, self._failures = None, fault, 0
        if fault:
            self._schedule()
        else:
            self._reloads += 1

    def report(self) -> RestartReport:
        """Summarise."""
        now, due, loading = self._clock(), self._due_at, self._loading_since
        given_up = self._attempts >= MOST_ATTEMPTS and loading is None
        return RestartReport(
            attempts=self._attempts,
            reloads=self._reloads,
            failures=self._failures,
            loading_s=None if loading is None else now - loading,
            wait_s=None if due is None else max(0.0, due - now),
            is_given_up=given_up and (self._failures >= PERSISTENT or bool(self._fault)),
            fault=self._fault,
        )

    def _schedule(self) -> None:
        if self._attempts < MOST_ATTEMPTS:
            self._due_at = self._clock() + WAITS_S[self._attempts]

# SPDX-License-Identifier: Apache-2.0
"""What the worker does at present, and since when: how a stuck one is told from a busy one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """What is done with a frame, in order."""

    WAIT = 'wait'  # from its arrival to its turn, in which it is taken
    DECODE = 'decode'
    ENGINE = 'engine'  # the call, with fitting to the engine's size and back
    PUBLISH = 'publish'  # computing what is watched, and sending it


_DOINGS = {
    Stage.WAIT: 'taking a frame from the middleware',
    Stage.DECODE: 'the decoding of a frame',
    Stage.ENGINE: 'the engine call',
    Stage.PUBLISH: 'the publishing of a frame',
}


@dataclass(frozen=True)
class Stuck:
    """A stage that does not end.

    Attributes:
        stage: where the worker is.
        seconds: since when.
        limit: how long it may take.
    """

    stage: Stage
    seconds: float
    limit: float

    def __str__(self) -> str:
        """Say it in words."""
        return (
            f'{_DOINGS[self.stage]} has not returned for {self.seconds:.1f} s (at most '
            f'{self.limit:.1f} s are usual)'
        )


class Activity:
    """The present stage of the one worker; others may ask for it at any time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start idle.

        Args:
            clock: steady time in seconds.
        """
        self._clock = clock
        self._present: tuple[Stage, float] | None = None

    @contextmanager
    def during(self, stage: Stage) -> Iterator[Callable[[], float]]:
        """Be in a stage; yields what tells the seconds since its begin."""
        begin = self._clock()
        # One assignment, so that no reader sees half of it.
        self._present = stage, begin
        try:
            yield lambda: self._clock() - begin
        finally:
            self._present = None

    def present(self) -> tuple[Stage, float] | None:
        """Return the present stage and how many seconds it has taken; None while idle."""
        present = self._present
        return None if present is None else (present[0], self._clock() - present[1])

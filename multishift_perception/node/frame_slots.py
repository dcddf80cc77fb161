# SPDX-License-Identifier: Apache-2.0
"""Which cameras have a frame for the worker, in fair turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from threading import Condition
from typing import Any

# A frame that is later than this share of its camera's interval has been missed.
_LATENESS = 0.25


@dataclass(frozen=True)
class Arrival:
    """A message and the steady time (seconds) at which it came."""

    message: Any
    received_at: float


@dataclass(frozen=True)
class _Rhythm:
    """When a camera last sent, and its usual interval (seconds); None after one frame."""

    last: float
    interval: float | None = None

    def after(self, now: float, frames: int) -> _Rhythm:
        gap = (now - self.last) / frames
        return _Rhythm(now, gap if self.interval is None else (self.interval + gap) / 2)

    def wait_until(self, now: float, end: float) -> float | None:
        """Return until when its next frame is worth waiting for; None if it is not."""
        if self.interval is None or self.last + self.interval > end:
            return None
        latest = min(end, self.last + (1 + _LATENESS) * self.interval)
        return latest if latest > now else None


class FrameSlots:
    """One slot per camera, full while its newest frame is not taken; nothing ever queues.

    Turns go round: the camera that was taken longest ago comes first.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start empty and open.

        Args:
            clock: steady time in seconds.
        """
        self._clock = clock
        self._changed = Condition()
        self._slots: dict[str, float] = {}  # when the newest frame came
        self._rhythms: dict[str, _Rhythm] = {}
        self._turns: dict[str, int] = {}
        self._next_turn = count(1)
        self._open = True

    def put(self, camera: str, frames: int = 1) -> int:
        """Note that frames of a camera have come, the newest of which is still there.

        Returns:
            How many of its frames give way, taken together.
        """
        with self._changed:
            now = self._clock()
            superseded = frames - (camera not in self._slots)
            self._slots[camera] = now
            known = self._rhythms.get(camera)
            self._rhythms[camera] = known.after(now, frames) if known else _Rhythm(now)
            self._changed.notify()
            return superseded

    def expect(self, cameras: frozenset[str]) -> None:
        """Say which cameras are in use; what others sent is forgotten."""
        with self._changed:
            for of_camera in (self._slots, self._rhythms):
                for camera in of_camera.keys() - cameras:
                    del of_camera[camera]
            self._changed.notify()

    def take(self, max_wait: float, call_size: Callable[[int], int]) -> list[str]:
        """Wait for a frame and return the cameras whose turn it is, those of one engine call.

        Args:
            max_wait: seconds to wait for cameras whose next frame is due by then, once there is
                one; nobody waits for a camera that is silent.
            call_size: returns how many frames a call takes when so many are there.

        Returns:
            The camera that has waited for its turn longest first; none only after ``close``.
        """
        with self._changed:
            while self._open:
                self._changed.wait_for(lambda: self._slots or not self._open)
                self._await_others(max_wait, call_size)
                # Empty where the only camera went out of use during the wait.
                if self._slots and self._open:
                    return self._take(call_size(len(self._slots)))
            return []

    def reopen(self) -> None:
        """Take ``close`` back."""
        with self._changed:
            self._open = True

    def close(self) -> None:
        """Wake the worker for good."""
        with self._changed:
            self._open = False
            self._changed.notify()

    def _take(self, size: int) -> list[str]:
        """Empty the slots of the cameras whose turn it is."""
        waiting = sorted(self._slots, key=lambda c: (self._turns.get(c, 0), self._slots[c]))
        for camera in waiting[:size]:
            del self._slots[camera]
            self._turns[camera] = next(self._next_turn)
        return waiting[:size]

    def _await_others(self, max_wait: float, call_size: Callable[[int], int]) -> None:
        """Wait for frames that are due, if one call could take them too."""
        end = self._clock() + max_wait
        while self._open and self._slots:
            here = len(self._slots)
            now = self._clock()
            absent = [r for camera, r in self._rhythms.items() if camera not in self._slots]
            due = [t for rhythm in absent if (t := rhythm.wait_until(now, end)) is not None]
            # The largest call that could come of it is no larger than what is there.
            if not due or call_size(here + len(due)) <= here:
                return
            self._changed.wait(max(due) - now)

# SPDX-License-Identifier: Apache-2.0
"""The newest frame of every camera, handed from the callbacks to the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import Any


@dataclass(frozen=True)
class Arrival:
    """A received message and the steady time (seconds) of its arrival."""

    message: Any
    received_at: float


class FrameSlots:
    """One slot per camera: newest frame wins, so that nothing ever queues."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start empty and open.

        Args:
            clock: steady time in seconds.
        """
        self._clock = clock
        self._changed = Condition()
        self._slots: dict[str, Arrival] = {}
        self._expected: frozenset[str] = frozenset()
        self._open = True

    def put(self, camera: str, message: Any) -> bool:
        """Store a camera's newest message; returns whether it replaces one not yet taken."""
        with self._changed:
            superseded = camera in self._slots
            self._slots[camera] = Arrival(message, self._clock())
            self._changed.notify()
            return superseded

    def expect(self, cameras: frozenset[str]) -> None:
        """Say which cameras send at present; ``take`` waits for no other."""
        with self._changed:
            self._expected = cameras
            for camera in self._slots.keys() - cameras:
                del self._slots[camera]
            self._changed.notify()

    def take(self, max_wait: float, batch: int) -> dict[str, Arrival]:
        """Wait for a frame and take all there are, by camera.

        Args:
            max_wait: seconds to wait for further cameras once there is a frame.
            batch: a batch of this many frames is not kept waiting.

        Returns:
            The frames; none only after ``close``.
        """
        with self._changed:
            while self._open:
                self._changed.wait_for(lambda: self._slots or not self._open)
                if max_wait > 0:
                    self._changed.wait_for(lambda: self._is_full(batch), max_wait)
                taken, self._slots = self._slots, {}
                # Empty where the only camera went out of use during the wait.
                if taken and self._open:
                    return taken
            return {}

    def _is_full(self, batch: int) -> bool:
        return not self._open or len(self._slots) >= min(batch, len(self._expected))

    def close(self) -> None:
        """Wake the worker for good."""
        with self._changed:
            self._open = False
            self._changed.notify()

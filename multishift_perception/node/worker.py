# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread

from multishift_perception.node.frame_slots import FrameSlots

# A thread that has seen that it shall end needs no longer for it.
_LAST_STEPS_S = 0.1
# Patience is counted in so many parts, by the clock. While the process is stopped or gets no CPU
# the clock goes on and the thread does not: that costs one of them.
_PARTS = 15


class Worker:
    """Has the frames of one engine call after the other processed."""

    def __init__(
        self,
        slots: FrameSlots,
        process: Callable[[Sequence[str]], None],
        *,
        call_size: Callable[[int], int],
        max_wait: Callable[[], float],
    ) -> None:
        """Start the thread.

        Args:
            slots: say whose turn it is.
            process: called with the cameras of each turn; handles its own faults.
            call_size: returns how many frames a call takes when so many are there.
            max_wait: seconds to wait for further cameras, asked before every turn.
        """
        self._slots = slots
        self._process = process
        self._call_size = call_size
        self._max_wait = max_wait
        self._thread = Thread(target=self._run, name='engine_worker', daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether frames are still processed."""
        return self._thread.is_alive()

    def stop(self, patience_s: float) -> bool:
        """Finish the turn at hand and end the thread.

        Args:
            patience_s: how long that may take, in seconds.

        Returns:
            Whether the thread has ended; where it has not, it goes on as if nothing was.
        """
        self._slots.close()
        for _ in range(_PARTS):
            self._thread.join(patience_s / _PARTS)
        if self._thread.is_alive():
            self._slots.reopen()
            self._thread.join(_LAST_STEPS_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while turn := self._slots.take(self._max_wait(), self._call_size):
            self._process(turn)

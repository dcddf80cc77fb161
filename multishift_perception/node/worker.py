# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import logging
from threading import Thread

from multishift_perception.node.frame_slots import Arrival, FrameSlots

logger = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 10.0


class Worker:
    """Takes the frames there are and has them processed, one batch after the other."""

    def __init__(
        self,
        slots: FrameSlots,
        process: Callable[[Mapping[str, Arrival]], None],
        *,
        batch: int,
        max_wait: Callable[[], float],
    ) -> None:
        """Start the thread.

        Args:
            slots: where frames arrive.
            process: called with each batch; handles its own faults.
            batch: frames of one engine call.
            max_wait: seconds to wait for further cameras, asked before every batch.
        """
        self._slots = slots
        self._process = process
        self._batch = batch
        self._max_wait = max_wait
        self._thread = Thread(target=self._run, name='engine_worker', daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether frames are still processed."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Finish the batch at hand and end the thread."""
        self._slots.close()
        self._thread.join(_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            logger.error('the engine call has not returned for %.0f s', _STOP_TIMEOUT_S)

    def _run(self) -> None:
        while batch := self._slots.take(self._max_wait(), self._batch):
            self._process(batch)

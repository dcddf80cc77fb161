# SPDX-License-Identifier: Apache-2.0
"""Looking again and again, without waking the executor."""

from __future__ import annotations

from collections.abc import Callable
import logging
from threading import Event, Thread

import rclpy

logger = logging.getLogger(__name__)

# A look ends long before; one that the middleware never lets go of is left behind.
_PATIENCE_S = 1.0


class Lookout:
    """A thread that looks at something at a steady pace.

    A timer would cost ten times as much: for each tick the executor goes through all that it waits
    for, of which a lifecycle node has dozens.
    """

    def __init__(self, every_s: float, look: Callable[[], None]) -> None:
        """Start to look.

        Args:
            every_s: seconds of steady time between looks.
            look: called by the thread.
        """
        self._every_s = every_s
        self._look = look
        self._end = Event()
        self._thread = Thread(target=self._run, name='lookout', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no longer; what is looked at may be destroyed then."""
        self._end.set()
        self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        while not self._end.wait(self._every_s):
            try:
                self._look()
            except Exception:  # of the middleware: the next look may go well
                if not rclpy.ok():  # the process is about to end
                    return
                logger.exception('cannot see who watches')

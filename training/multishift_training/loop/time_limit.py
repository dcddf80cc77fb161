# SPDX-License-Identifier: Apache-2.0
"""How long a run may take before it is saved and left, to go on another time."""

from __future__ import annotations

import time

from lightning_fabric import Fabric


class TimeLimit:
    """A number of seconds from now on."""

    def __init__(self, seconds: float) -> None:
        """Start the clock; infinity never ends."""
        self._end = time.monotonic() + seconds

    def is_over(self, fabric: Fabric, *, whole: bool, due: bool) -> bool:
        """Return whether to leave the run here, for all of its processes the same.

        Args:
            fabric: knows the other processes.
            whole: whether no batch is waiting for others to make a step of the optimiser.
            due: whether the state is saved here anyway: where there are other processes, only
                then are they asked, as they wait for each other's answer.
        """
        if fabric.world_size == 1:
            return whole and time.monotonic() > self._end
        return due and bool(fabric.broadcast(time.monotonic() > self._end))

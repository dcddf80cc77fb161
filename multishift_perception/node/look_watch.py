# SPDX-License-Identifier: Apache-2.0
"""Whether a camera's frames look as the engine knows it: smoothed, and with hysteresis."""

from __future__ import annotations

from collections.abc import Callable
import math

# A single frame against a lamp, or between two tunnels, is no other world.
_SMOOTHED_S = 2.0
# Ordinary frames lie at some 0.6 to 0.9, and 1 in 100 of them above 1.
_LEAVES, _RETURNS = 1.0, 0.9
# The farthest count no more than this: one that is mad should not be remembered for long.
_MOST = 100.0


class LookWatch:
    """Follows the distances of one camera's frames."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start with nothing known; ``clock`` is steady time in seconds."""
        self._clock = clock
        self._at = 0.0
        self.distance: float | None = None
        self.is_strange = False

    def forget(self) -> None:
        """Start anew."""
        self.distance = None
        self.is_strange = False

    def add(self, distance: float) -> None:
        """Take the next frame's."""
        distance = min(distance, _MOST) if math.isfinite(distance) else _MOST
        now = self._clock()
        if self.distance is None:
            self.distance = distance
        else:
            kept = math.exp(-max(now - self._at, 1e-3) / _SMOOTHED_S)
            self.distance = kept * self.distance + (1 - kept) * distance
        self._at = now
        self.is_strange = self.distance > (_RETURNS if self.is_strange else _LEAVES)

# SPDX-License-Identifier: Apache-2.0
"""Levels that rise at once and fall late, so that none of them flickers."""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticStatus

# A lower level has to last this long, in seconds, before it is believed.
HOLD_S = 3.0


class Hold:
    """The level that one status has shown."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start with nothing to hold.

        Args:
            clock: steady time in seconds.
        """
        self._clock = clock
        self._level, self._message, self._seen = DiagnosticStatus.OK, '', clock()

    def forget(self) -> None:
        """Hold nothing: what was wrong can be so no more."""
        self._level = DiagnosticStatus.OK

    def settle(self, level: bytes, message: str) -> tuple[bytes, str]:
        """Return level and message to show: the last higher ones until they are old enough."""
        now = self._clock()
        if level < self._level and now - self._seen < HOLD_S:
            return self._level, f'{self._message} (until {now - self._seen:.0f} s ago)'
        self._level, self._message, self._seen = level, message, now
        return level, message

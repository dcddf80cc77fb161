# SPDX-License-Identifier: Apache-2.0
"""Is a frame too old, and can its header stamp be believed?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from multishift_perception.frame_tally import Drop

# A frame cannot wait a minute anywhere in front of a depth of one: such a stamp is of another
# clock. Neither can it come from the future, but for the clock drift between two machines.
_OLDEST_CREDIBLE_S = 60.0
_FUTURE_TOLERATED_S = 1.0


class StampFault(Enum):
    """What can be wrong with a header stamp."""

    ZERO = 'zero'
    NO_CLOCK = 'no clock'
    BEHIND = 'behind'
    AHEAD = 'ahead'


@dataclass(frozen=True)
class Age:
    """The verdict on one frame's stamp.

    Attributes:
        seconds: age; None where stamp and clock cannot be compared.
        fault: what is wrong with the stamp; None if nothing is.
        words: the same, for people.
        drop: cause under which to drop the frame, None to keep it.
    """

    seconds: float | None
    fault: StampFault | None = None
    words: str = ''
    drop: Drop | None = None


def judge(stamp_ns: int, now_ns: int, max_age_ms: int) -> Age:
    """Judge a frame by its header stamp.

    A frame whose age is unknown (no stamp, or no clock yet) is kept; one that is older than the
    limit is dropped, as ``clock`` where the stamp must be of another clock, else as ``stale``.

    Args:
        stamp_ns: header stamp in nanoseconds.
        now_ns: the node's clock in nanoseconds; 0 while simulated time has not begun.
        max_age_ms: limit in milliseconds; 0 for none.
    """
    if stamp_ns == 0:
        words = 'the header stamps are zero: the driver does not set them'
        return Age(None, StampFault.ZERO, words)
    if now_ns == 0:
        return Age(None, StampFault.NO_CLOCK, 'use_sim_time is set and no /clock has come')
    seconds = (now_ns - stamp_ns) / 1e9
    too_old = 0 < max_age_ms < seconds * 1000
    if not -_FUTURE_TOLERATED_S <= seconds <= _OLDEST_CREDIBLE_S:
        fault = StampFault.BEHIND if seconds > 0 else StampFault.AHEAD
        words = _clock_fault(seconds)
        return Age(None, fault, words, Drop.CLOCK if too_old else None)
    return Age(max(seconds, 0.0), drop=Drop.STALE if too_old else None)


def is_late(age: Age, stamp_ns: int, now_ns: int, max_age_ms: int) -> bool:
    """Say whether a frame that was young enough to be processed has grown too old meanwhile.

    Args:
        age: as it was judged before; a frame of unknown age is never late.
        stamp_ns: as for `judge`.
        now_ns: as for `judge`.
        max_age_ms: as for `judge`.
    """
    return age.seconds is not None and 0 < max_age_ms * 1_000_000 < now_ns - stamp_ns


def _clock_fault(seconds: float) -> str:
    side = 'behind' if seconds > 0 else 'ahead of'
    return (
        f"the header stamps are of another clock ({abs(seconds):.0f} s {side} the node's): "
        'set use_sim_time and play with --clock, or synchronise the hosts'
    )

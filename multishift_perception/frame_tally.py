# SPDX-License-Identifier: Apache-2.0
"""Where a camera's frames went: the causes of drops, and the counts as the diagnostics have them.

The node writes them; the demo and the page of `multishift view` read them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_RECEIVED, _PROCESSED, _DROPPED = 'received', 'processed', 'dropped: '
LOST = 'lost before receipt'


class Drop(StrEnum):
    """Why a frame is dropped, in the order in which the diagnostics list it."""

    STALE = 'stale'  # older than the limit
    CLOCK = 'clock'  # its stamp is of another clock
    SUPERSEDED = 'superseded'  # a newer one came before the engine was free
    ENCODING = 'encoding'  # nothing here decodes it
    BROKEN = 'broken'  # its fields contradict each other, or its bytes are damaged
    OVERSIZED = 'oversized'  # it has more pixels than a camera's
    ENGINE = 'engine'  # the engine call failed
    LATE = 'late'  # older than the limit once the engine was done
    PUBLISH = 'publish'  # the middleware did not take its outputs


@dataclass(frozen=True)
class FrameTally:
    """A camera's frames since the node was configured.

    Attributes:
        received: frames that came.
        processed: frames whose outputs were published.
        dropped: frames dropped, by cause.
        lost: frames that were sent and never came; None where the middleware numbers none.
    """

    received: int
    processed: int
    dropped: Mapping[str, int]
    lost: int | None = None

    @classmethod
    def read(cls, values: Mapping[str, str]) -> FrameTally:
        """Return the counts among the values of a camera's status."""
        lost = values.get(LOST, '')
        return cls(
            int(values[_RECEIVED]),
            int(values[_PROCESSED]),
            {
                key.removeprefix(_DROPPED): int(value)
                for key, value in values.items()
                if key.startswith(_DROPPED)
            },
            int(lost) if lost.isdecimal() else None,
        )

    def values(self) -> dict[str, int | str]:
        """Return the values of a camera's status, one for every cause."""
        return {
            _RECEIVED: self.received,
            _PROCESSED: self.processed,
            **{f'{_DROPPED}{cause}': self.dropped.get(cause, 0) for cause in Drop},
            LOST: 'unknown: this middleware does not tell' if self.lost is None else self.lost,
        }

# SPDX-License-Identifier: Apache-2.0
"""Chooses the stamps with which a bag is played: its own where a live camera could have set them.

The player and the judge of a run both ask, in the order of the bag, and get the same answers.
"""

from __future__ import annotations

from collections import Counter

# The node drops what is older than 0.2 s, and cameras stamp a frame shortly before it is recorded.
_CREDIBLE_NS = 100_000_000


class PlayStamps:
    """The stamps of a bag's messages as they are played, on the clock of the bag.

    A topic keeps its header stamps as long as they increase and are near the bag's time. From the
    first on that does not, its messages get the bag's time.
    """

    def __init__(self) -> None:
        """Begin at the start of the bag."""
        self._faults: dict[str, str] = {}
        self._moved: Counter[str] = Counter()
        self._last: dict[str, int] = {}

    def of(self, topic: str, stamp_ns: int, bag_time_ns: int) -> int:
        """Return the stamp for the next message of a topic, in nanoseconds; no two are equal."""
        last = self._last.get(topic, -1)
        if topic not in self._faults and (fault := _fault(stamp_ns, bag_time_ns, last)):
            self._faults[topic] = fault
        if topic in self._faults:
            self._moved[topic] += 1
            stamp_ns = max(bag_time_ns, last + 1)
        self._last[topic] = stamp_ns
        return stamp_ns

    def warnings(self) -> list[str]:
        """Return what got the bag's time so far, a line per topic."""
        return [
            f'{number} messages on {topic} were played with the time of the bag as their stamp, '
            f'and latency counts from there: {self._faults[topic]}'
            for topic, number in self._moved.items()
        ]


def _fault(stamp_ns: int, bag_time_ns: int, last_ns: int) -> str:
    if abs(lag := bag_time_ns - stamp_ns) > _CREDIBLE_NS:
        if stamp_ns == 0:
            return 'their header stamps are zero'
        side = 'behind' if lag > 0 else 'ahead of'
        return f'their header stamps are {abs(lag) / 1e9:.1f} s {side} it'
    return 'their header stamps do not increase' if stamp_ns <= last_ns else ''

# SPDX-License-Identifier: Apache-2.0
"""The messages of one MCAP file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
import heapq
from itertools import count
from pathlib import Path

from multishift_perception.bags.mcap_index import read_index
from multishift_perception.bags.mcap_records import read_messages, read_starts
from multishift_perception.bags.storage import StoredMessage


class McapFile:
    """An MCAP file, whole or cut off; see ``Storage``."""

    def __init__(self, path: Path) -> None:
        """Open the file and find its messages."""
        self._file = path.open('rb')
        try:
            self._index = read_index(self._file)
        except BaseException:
            self._file.close()
            raise
        index = self._index
        self.first, self.last = index.first, index.last
        self.is_complete, self.unread = index.closed, index.unread
        self.kinds: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        # Of several types on one topic, the one that comes most often names it.
        for channel in sorted(index.channels, key=lambda i: index.counts[i]):
            topic, kind = index.channels[channel]
            self.kinds[topic] = kind
            self.counts[topic] += index.counts[channel]

    def messages(
        self, topics: Collection[str], most: int | None = None
    ) -> Iterator[StoredMessage]:
        """Yield the messages on ``topics`` in order of time; see ``Storage``."""
        wanted = {i: names for i, names in self._index.channels.items() if names[0] in topics}
        pieces = sorted(
            (p for p in self._index.pieces if p.channels is None or p.channels & wanted.keys()),
            key=lambda piece: piece.start,
        )
        # Chunks may overlap in time: a message waits until no later chunk can have an earlier one.
        waiting: list[tuple[int, int, int, memoryview]] = []
        order = count()
        for piece in pieces:
            while waiting and waiting[0][0] <= piece.start:
                yield _named(heapq.heappop(waiting), wanted)
            if most is None:
                found = read_messages(self._file, piece.offset)
            else:
                found = read_starts(self._file, piece.offset, most)
            for channel, time, data in found:
                if channel in wanted:
                    heapq.heappush(waiting, (time, next(order), channel, data))
        while waiting:
            yield _named(heapq.heappop(waiting), wanted)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _named(
    entry: tuple[int, int, int, memoryview], channels: dict[int, tuple[str, str]]
) -> StoredMessage:
    time, _, channel, data = entry
    return StoredMessage(*channels[channel], data, time)

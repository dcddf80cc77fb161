# SPDX-License-Identifier: Apache-2.0
"""Reading of rosbag2 bags without ROS: what the files hold, whatever is written about it.

Only topics that are asked for matter: what else is in a bag, or how it was offered, is of no
concern. A bag is never written to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
import heapq
from itertools import chain, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import zstandard

from multishift_perception.bags.location import locate, ros1_messages
from multishift_perception.bags.opening import open_storage
from multishift_perception.bags.storage import RawMessage, Storage, StoredMessage
from multishift_perception.bags.types import TYPES
from multishift_perception.errors import MultishiftError, one_line


class _File(NamedTuple):
    path: Path
    storage: Storage


class BagReader:
    """A bag opened for reading: a ``.mcap`` or ``.db3`` file, or a rosbag2 directory.

    Use as a context manager. A recording that was cut off is read as far as it goes.

    Attributes:
        path: where it is.
        name: what errors and warnings call it.
        warnings: what of the bag is not read, or read with doubts; a line each.

    Raises:
        MultishiftError: the bag is missing, empty, damaged or of another format.
    """

    def __init__(self, path: Path, *, name: str | None = None) -> None:
        """Remember where the bag is; entering the context opens it.

        Args:
            path: the bag.
            name: for errors, where the path means nothing to a user; default the path.
        """
        self.path = path
        self.name = name or str(path)
        self.warnings: list[str] = []

    def __enter__(self) -> Self:
        """Open the bag's files and find the messages in them."""
        located = locate(self.path)
        self.warnings = list(located.warnings)
        with ExitStack() as stack:
            self._files = [self._open(path, stack) for path in located.files]
            self._check_contents()
            self._closing = stack.pop_all()
        self._files.sort(key=lambda file: file.storage.first or 0)
        self._missing = located.promised - self._counts()
        self.warnings += [
            f'{self.name}: metadata.yaml counts {located.promised[topic]} messages on {topic}, '
            f'of which the files hold {located.promised[topic] - number}'
            for topic, number in self._missing.items()
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the bag."""
        self._closing.close()

    @property
    def topics(self) -> dict[str, str]:
        """Message type (``package/msg/Name``) of every topic, in order of topic name."""
        # The last one wins: a topic without messages must not hide the type of those there are.
        files = sorted(self._files, key=lambda file: file.storage.counts.total())
        kinds = chain.from_iterable(file.storage.kinds.items() for file in files)
        return dict(sorted(dict(kinds).items()))

    @property
    def start(self) -> int:
        """Bag time of the first message in nanoseconds; 0 for an empty bag."""
        return min(
            (f.storage.first for f in self._files if f.storage.first is not None), default=0
        )

    @property
    def duration(self) -> float:
        """Seconds between the first and the last message; 0 for an empty bag."""
        lasts = [f.storage.last for f in self._files if f.storage.last is not None]
        return (max(lasts) - self.start) / 1e9 if lasts else 0.0

    def count(self, topics: Sequence[str] | None = None) -> int:
        """Return the number of messages on ``topics`` (default: all) in the files."""
        counts = self._counts()
        return counts.total() if topics is None else sum(counts[t] for t in set(topics))

    def missing(self, topic: str) -> int:
        """Return how many messages fewer the files hold than ``metadata.yaml`` counts."""
        return self._missing[topic]

    def messages(self, topics: Sequence[str] | None = None) -> Iterator[tuple[str, Any, int]]:
        """Yield ``(topic, message, bag time in ns)`` in order of time.

        Args:
            topics: only these (default: all). An unknown topic is an error.

        Raises:
            MultishiftError: unknown topic, unknown message type, or a damaged bag.
        """
        for topic, kind, data, time in self._stored(topics):
            if kind not in TYPES.types:
                raise MultishiftError(
                    f'{self.name}: {topic} has type {kind}, which this tool does not read'
                )
            try:
                # What is no copy saves three of each frame.
                message = TYPES.deserialize_cdr(memoryview(data), kind)
            except Exception as error:  # bytes from outside may raise anything
                raise MultishiftError(
                    f'{self.name}: the message on {topic} at {time} ns is no {kind} '
                    f'({type(error).__name__}: {error}); leave the topic out, or record it again'
                ) from error
            yield topic, message, time

    def raw_messages(self, topics: Sequence[str] | None = None) -> Iterator[RawMessage]:
        """Yield ``(topic, type, CDR bytes, bag time in ns)`` in order of time."""
        for topic, kind, data, time in self._stored(topics):
            yield RawMessage(topic, kind, bytes(data), time)

    def starts(self, topics: Sequence[str], most: int) -> Iterator[RawMessage]:
        """Yield what `raw_messages` does, but of each message so many bytes at most.

        Where a file allows it, the rest of the messages is not read, nor seen whether it is whole.
        """
        for topic, kind, data, time in self._stored(topics, most):
            yield RawMessage(topic, kind, bytes(data[:most]), time)

    def _stored(
        self, topics: Sequence[str] | None, most: int | None = None
    ) -> Iterator[StoredMessage]:
        chosen = self._chosen(topics)
        streams = [self._stream(file, chosen, most) for file in self._files]
        # One file after the other, as they were recorded; only what overlaps is open at once.
        ends = [f.storage for f in self._files if f.storage.first is not None]
        if any((a.last or 0) > (b.first or 0) for a, b in pairwise(ends)):
            yield from heapq.merge(*streams, key=lambda message: message.time)
        else:
            yield from chain.from_iterable(streams)

    def _stream(self, file: _File, topics: set[str], most: int | None) -> Iterator[StoredMessage]:
        stream = file.storage.messages(topics, most)
        while True:
            try:
                message = next(stream, None)
                if message is None:
                    return
                if message.data[:4] == zstandard.FRAME_HEADER:  # CDR begins with a zero
                    data = zstandard.ZstdDecompressor().decompressobj().decompress(message.data)
                    message = message._replace(data=data)
            except Exception as error:
                raise self._damaged(file.path, error) from error
            yield message

    def _chosen(self, topics: Sequence[str] | None) -> set[str]:
        if topics is None:
            return set(self.topics)
        if unknown := sorted(set(topics) - set(self.topics)):
            raise MultishiftError(
                f'{self.name}: no topic {unknown[0]!r}; the bag has: {", ".join(self.topics)}'
            )
        return set(topics)

    def _counts(self) -> Counter[str]:
        return sum((file.storage.counts for file in self._files), Counter())

    def _open(self, path: Path, stack: ExitStack) -> _File:
        try:
            storage = open_storage(path, stack)
        except MultishiftError:
            raise
        except Exception as error:  # the parser of a damaged file may raise anything
            raise self._damaged(path, error) from error
        return _File(path, storage)

    def _check_contents(self) -> None:
        """Say how much of a recording there is; refuse one that holds nothing for us.

        Raises:
            MultishiftError: nothing was recorded, or only messages of ROS 1.
        """
        cut = [file for file in self._files if not file.storage.is_complete]
        if cut and not self.count():
            raise MultishiftError(
                f'{cut[0].path}: the recording is cut off before its first message; record it '
                'again, or copy it again if its source is longer'
            )
        self.warnings += [_ending(file) for file in cut]
        if self.topics and all(kind.endswith(')') for kind in self.topics.values()):
            if any(kind.endswith('(ros1)') for kind in self.topics.values()):
                raise ros1_messages(self.path)

    def _damaged(self, path: Path, error: Exception) -> MultishiftError:
        name = self.name if path == self.path else path
        reason = one_line(error) or type(error).__name__
        if isinstance(error, OSError):
            mend = '; check its permissions' if isinstance(error, PermissionError) else ''
            return MultishiftError(f'{name}: not readable ({reason}){mend}')
        return MultishiftError(
            f'{name}: the bag is damaged ({reason}); copy it again from its source'
        )


def _ending(file: _File) -> str:
    storage = file.storage
    seconds = ((storage.last or 0) - (storage.first or 0)) / 1e9
    unread = f'; its last {storage.unread} bytes are not whole messages' if storage.unread else ''
    return (
        f'{file.path}: the recording is cut off; read as far as it goes: '
        f'{storage.counts.total()} messages, {seconds:.1f} s{unread}'
    )

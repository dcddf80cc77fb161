# SPDX-License-Identifier: Apache-2.0
"""What the file formats of bags have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class RawMessage(NamedTuple):
    """A serialised message: topic, type, CDR bytes, bag time in nanoseconds."""

    topic: str
    kind: str
    data: bytes
    time: int


class StoredMessage(NamedTuple):
    """A message as a file holds it, which may be a part of what was read with it."""

    topic: str
    kind: str
    data: bytes | memoryview
    time: int


class Storage(Protocol):
    """One file of a bag, opened for reading; it is never written to.

    Attributes:
        kinds: type of every topic.
        counts: messages by topic, as the file holds them.
        first: earliest bag time in nanoseconds; None without messages.
        last: latest one.
        is_complete: False for a recording that was cut off.
        unread: bytes at its end that could not be read, as far as they can be told.
    """

    kinds: dict[str, str]
    counts: Counter[str]
    first: int | None
    last: int | None
    is_complete: bool
    unread: int

    def messages(
        self, topics: Collection[str], most: int | None = None
    ) -> Iterator[StoredMessage]:
        """Yield the messages on ``topics`` in order of time.

        Args:
            topics: names of topics.
            most: how many bytes of each are wanted; those of more may be cut. None: all.
        """

    def close(self) -> None:
        """Close the file."""


@dataclass
class Nothing:
    """A file that was cut off before anything was in it; see ``Storage``."""

    kinds: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    first: int | None = None
    last: int | None = None
    is_complete: bool = False
    unread: int = 0

    def messages(
        self, topics: Collection[str], most: int | None = None
    ) -> Iterator[StoredMessage]:
        """Yield nothing."""
        return iter(())

    def close(self) -> None:
        """Do nothing: no file is open."""

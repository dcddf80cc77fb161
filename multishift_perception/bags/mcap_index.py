# SPDX-License-Identifier: Apache-2.0
"""Finds the messages of an MCAP file: by its summary or, where that is missing, record by record.

A recording that was cut off has no summary, and may end inside a record. What is whole is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO, NamedTuple

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Schema

from multishift_perception.bags.mcap_records import (
    HEAD,
    MALFORMED,
    MESSAGE,
    chunk_records,
    read_record,
)
from multishift_perception.bags.types import kind_of

MAGIC = b'\x89MCAP0\r\n'

_FOOTER = HEAD.pack(Opcode.FOOTER, 20)


class Piece(NamedTuple):
    """A record that holds messages: a chunk of them, or one.

    Attributes:
        start: earliest bag time in it, nanoseconds.
        offset: of the record in the file.
        channels: those that have messages in it; None where unknown.
    """

    start: int
    offset: int
    channels: frozenset[int] | None


@dataclass
class Index:
    """What an MCAP file holds.

    Attributes:
        channels: topic and type by channel.
        counts: messages by channel.
        pieces: where they are, in order of the file.
        first: earliest bag time in nanoseconds; None without messages.
        last: latest one.
        closed: whether the recorder finished the file.
        unread: bytes at the end of the file that could not be read.
    """

    channels: dict[int, tuple[str, str]] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    pieces: list[Piece] = field(default_factory=list)
    first: int | None = None
    last: int | None = None
    closed: bool = True
    unread: int = 0

    def note(self, channel: int, time: int) -> None:
        """Count a message."""
        self.counts[channel] += 1
        self.first = time if self.first is None else min(self.first, time)
        self.last = time if self.last is None else max(self.last, time)


def read_index(file: BinaryIO) -> Index:
    """Return what an MCAP file holds."""
    closed = _is_closed(file)
    index = _from_summary(file) if closed else None
    return _Scan(file, closed=closed).index if index is None else index


def _is_closed(file: BinaryIO) -> bool:
    size = file.seek(0, 2)
    file.seek(max(0, size - 37))
    end = file.read()
    return end.startswith(_FOOTER) and end.endswith(MAGIC)


def _from_summary(file: BinaryIO) -> Index | None:
    """Return the index that the file's summary gives, None if it does not tell all."""
    file.seek(0)
    try:
        summary = SeekingReader(file).get_summary()
    except MALFORMED:
        return None
    if summary is None or (statistics := summary.statistics) is None:
        return None
    counts = Counter(statistics.channel_message_counts)
    chunks = summary.chunk_indexes
    if (
        counts.total() != statistics.message_count
        or not counts.keys() <= summary.channels.keys()
        or len(chunks) != statistics.chunk_count
        or (counts.total() and not chunks)
        or not {c.schema_id for c in summary.channels.values()} <= {0, *summary.schemas}
    ):
        return None
    return Index(
        channels={i: _topic_and_kind(c, summary.schemas) for i, c in summary.channels.items()},
        counts=counts,
        pieces=[
            Piece(
                chunk.message_start_time,
                chunk.chunk_start_offset,
                frozenset(chunk.message_index_offsets) or None,
            )
            for chunk in chunks
        ],
        first=statistics.message_start_time if counts.total() else None,
        last=statistics.message_end_time if counts.total() else None,
    )


class _Scan:
    """Walks over the records of a file and notes what they hold."""

    def __init__(self, file: BinaryIO, *, closed: bool) -> None:
        self.index = Index(closed=closed)
        self._file = file
        self._size = file.seek(0, 2)
        self._schemas: dict[int, Schema] = {}
        reached = self._walk()
        if not closed:
            self.index.unread = self._size - reached

    def _walk(self) -> int:
        """Return how far the file can be read."""
        offset = len(MAGIC)
        while offset + HEAD.size <= self._size:
            self._file.seek(offset)
            opcode, length = HEAD.unpack(self._file.read(HEAD.size))
            end = offset + HEAD.size + length
            if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                return self._size
            # No record has opcode 0: that is the empty space after a power cut.
            if opcode == 0 or not self._take(opcode, offset) or end > self._size:
                return offset
            offset = end
        return offset

    def _take(self, opcode: int, offset: int) -> bool:
        """Note a record; return False if it is damaged."""
        if opcode not in (Opcode.CHUNK, Opcode.MESSAGE, Opcode.SCHEMA, Opcode.CHANNEL):
            return True
        _, body, whole = read_record(self._file, offset)
        try:
            if opcode == Opcode.CHUNK:
                self._take_chunk(offset, chunk_records(body, whole=whole))
            elif opcode == Opcode.MESSAGE and whole:
                channel, _, time, _ = MESSAGE.unpack_from(body)
                self.index.note(channel, time)
                self.index.pieces.append(Piece(time, offset, frozenset([channel])))
            elif whole:
                self._take_name(opcode, body)
        except MALFORMED:
            if self.index.closed:
                raise
            return False
        return True

    def _take_chunk(self, offset: int, records: Iterator[tuple[int, memoryview]]) -> None:
        found = []
        for opcode, body in records:
            if opcode == Opcode.MESSAGE:
                channel, _, time, _ = MESSAGE.unpack_from(body)
                found.append((channel, time))
            else:
                self._take_name(opcode, bytes(body))
        for channel, time in found:
            self.index.note(channel, time)
        if found:
            start = min(time for _, time in found)
            channels = frozenset(channel for channel, _ in found)
            self.index.pieces.append(Piece(start, offset, channels))

    def _take_name(self, opcode: int, body: bytes) -> None:
        stream = ReadDataStream(BytesIO(body))
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(stream)
            self._schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(stream)
            self.index.channels[channel.id] = _topic_and_kind(channel, self._schemas)


def _topic_and_kind(channel: Channel, schemas: dict[int, Schema]) -> tuple[str, str]:
    schema = schemas.get(channel.schema_id)
    name = '' if schema is None else schema.name
    return channel.topic, kind_of(name, channel.message_encoding)

# SPDX-License-Identifier: Apache-2.0
"""Takes the records of an MCAP file apart that hold messages: chunks, whole or cut."""

from __future__ import annotations

from collections.abc import Iterator
from io import SEEK_END
import struct
from typing import BinaryIO, NamedTuple
import zlib

import lz4.frame
from mcap.exceptions import McapError
from mcap.opcode import Opcode
import zstandard

HEAD = struct.Struct('<BQ')  # opcode and length of a record
MESSAGE = struct.Struct('<HIQQ')  # channel, sequence, log time, publish time; then the data
# First and last time, size and checksum without compression, length of the compression's name;
# then that, and the length of the records.
_CHUNK, _RECORDS = struct.Struct('<QQQII'), struct.Struct('<Q')
# What the libraries may raise over bytes that are not what they should be.
MALFORMED = (McapError, ValueError, struct.error, zstandard.ZstdError, RuntimeError)


class Message(NamedTuple):
    """A message of a channel, or its first bytes."""

    channel: int
    time: int
    data: memoryview


def read_messages(file: BinaryIO, offset: int) -> list[Message]:
    """Return the messages in the record at ``offset``; of one that is cut, the whole ones.

    Raises:
        ValueError, McapError: the record is damaged.
    """
    opcode, body, whole = read_record(file, offset)
    if opcode == Opcode.MESSAGE:
        return [_message(memoryview(body))]
    records = chunk_records(body, whole=whole)
    return [_message(_own(record)) for opcode, record in records if opcode == Opcode.MESSAGE]


def _own(record: memoryview) -> memoryview:
    """Return a record that keeps no more memory alive than twice its own.

    What is most of its chunk stays there: copies of large frames cost as much as all else of
    reading them.
    """
    is_most = 2 * len(record) > memoryview(record.obj).nbytes
    return record if is_most else memoryview(bytes(record))


def read_starts(file: BinaryIO, offset: int, most: int) -> list[Message]:
    """Return what `read_messages` does, of each message so many bytes at least.

    Of what is not compressed nothing else is read, nor is a checksum compared.

    Raises:
        ValueError, McapError: the record is damaged.
    """
    size = file.seek(0, SEEK_END)
    file.seek(offset)
    opcode, length = HEAD.unpack(file.read(HEAD.size))
    start, end = offset + HEAD.size, offset + HEAD.size + length
    if opcode == Opcode.MESSAGE:
        return [_message(memoryview(_start(file, length, most)))]
    *_, named = _CHUNK.unpack(file.read(_CHUNK.size))
    if named:
        return read_messages(file, offset)
    (length,) = _RECORDS.unpack(file.read(_RECORDS.size))
    start += _CHUNK.size + _RECORDS.size
    end = min(start + length, end, size)
    found = []
    while start + HEAD.size <= end:
        file.seek(start)
        opcode, length = HEAD.unpack(file.read(HEAD.size))
        start += HEAD.size + length
        if opcode == Opcode.MESSAGE and start <= end:
            found.append(_message(memoryview(_start(file, length, most))))
    return found


def _start(file: BinaryIO, length: int, most: int) -> bytes:
    """Return the start of a message of which all that is compressed is needed."""
    start = file.read(min(length, MESSAGE.size + most))
    if start[MESSAGE.size :].startswith(zstandard.FRAME_HEADER):
        return start + file.read(length - len(start))
    return start


def read_record(file: BinaryIO, offset: int) -> tuple[int, bytes, bool]:
    """Return opcode and content of the record at ``offset``, and whether all of it is there."""
    rest = file.seek(0, SEEK_END) - offset - HEAD.size
    file.seek(offset)
    opcode, length = HEAD.unpack(file.read(HEAD.size))
    # A damaged length must not become a request for so much memory.
    return opcode, file.read(min(length, rest)), length <= rest


def chunk_records(body: bytes, *, whole: bool) -> Iterator[tuple[int, memoryview]]:
    """Yield opcode and content of the records in a chunk; of one that is cut, the whole ones.

    Raises:
        ValueError, McapError: the chunk is damaged.
    """
    view, offset = memoryview(_chunk_data(memoryview(body), whole=whole)), 0
    while offset + HEAD.size <= len(view):
        opcode, length = HEAD.unpack_from(view, offset)
        start, offset = offset + HEAD.size, offset + HEAD.size + length
        if offset <= len(view):
            yield opcode, view[start:offset]
    if whole and offset != len(view):
        raise ValueError('the records of a chunk do not fill it')


def _chunk_data(body: memoryview, *, whole: bool) -> bytes | memoryview:
    """Return a chunk's records; a part of the body where they are not compressed."""
    _, _, size, checksum, named = _CHUNK.unpack_from(body)
    start = _CHUNK.size + named
    compression = str(body[_CHUNK.size : start], 'utf-8')
    (length,) = _RECORDS.unpack_from(body, start)
    start += _RECORDS.size
    records = body[start : start + length]
    data: bytes | memoryview
    if compression == 'zstd':
        data = zstandard.ZstdDecompressor().decompressobj().decompress(records)
    elif compression == 'lz4':
        data = lz4.frame.LZ4FrameDecompressor().decompress(records)
    elif compression == '':
        data = records
    else:
        raise ValueError(f'chunks compressed with {compression!r}; expected zstd or lz4')
    if whole and len(data) != size:
        raise ValueError(f'a chunk has {len(data)} bytes instead of {size}')
    if whole and checksum and zlib.crc32(data) != checksum:
        raise ValueError('the checksum of a chunk is wrong')
    return data


def _message(body: memoryview) -> Message:
    channel, _, time, _ = MESSAGE.unpack_from(body)
    return Message(channel, time, body[MESSAGE.size :])

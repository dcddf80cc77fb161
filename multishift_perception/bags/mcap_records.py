# SPDX-License-Identifier: Apache-2.0
"""Takes the records of an MCAP file apart that hold messages: chunks, whole or cut."""

from __future__ import annotations

from collections.abc import Iterator
from io import SEEK_END, BytesIO
import struct
from typing import BinaryIO, NamedTuple
import zlib

import lz4.frame
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Chunk
import zstandard

HEAD = struct.Struct('<BQ')  # opcode and length of a record
MESSAGE = struct.Struct('<HIQQ')  # channel, sequence, log time, publish time; then the data
# What the libraries may raise over bytes that are not what they should be.
MALFORMED = (McapError, ValueError, struct.error, zstandard.ZstdError, RuntimeError)


class Message(NamedTuple):
    """A message of a channel."""

    channel: int
    time: int
    data: bytes


def read_messages(file: BinaryIO, offset: int) -> list[Message]:
    """Return the messages in the record at ``offset``; of one that is cut, the whole ones.

    Raises:
        ValueError, McapError: the record is damaged.
    """
    opcode, body, whole = read_record(file, offset)
    if opcode == Opcode.MESSAGE:
        return [_message(body)]
    records = chunk_records(body, whole=whole)
    return [_message(record) for opcode, record in records if opcode == Opcode.MESSAGE]


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
    view, offset = memoryview(_chunk_data(body, whole=whole)), 0
    while offset + HEAD.size <= len(view):
        opcode, length = HEAD.unpack_from(view, offset)
        start, offset = offset + HEAD.size, offset + HEAD.size + length
        if offset <= len(view):
            yield opcode, view[start:offset]
    if whole and offset != len(view):
        raise ValueError('the records of a chunk do not fill it')


def _chunk_data(body: bytes, *, whole: bool) -> bytes:
    chunk = Chunk.read(ReadDataStream(BytesIO(body)))
    if chunk.compression == 'zstd':
        data = zstandard.ZstdDecompressor().decompressobj().decompress(chunk.data)
    elif chunk.compression == 'lz4':
        data = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data)
    elif chunk.compression == '':
        data = chunk.data
    else:
        raise ValueError(f'chunks compressed with {chunk.compression!r}; expected zstd or lz4')
    if whole and len(data) != chunk.uncompressed_size:
        raise ValueError(f'a chunk has {len(data)} bytes instead of {chunk.uncompressed_size}')
    if whole and chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
        raise ValueError('the checksum of a chunk is wrong')
    return data


def _message(body: bytes | memoryview) -> Message:
    channel, _, time, _ = MESSAGE.unpack_from(body)
    return Message(channel, time, bytes(body[MESSAGE.size :]))

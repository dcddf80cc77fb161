# SPDX-License-Identifier: Apache-2.0
"""Header stamps, also of serialised messages: no image is deserialised for its stamp."""

from __future__ import annotations

import struct
from typing import Any

# CDR: two bytes of representation, two of options, then the header, whose stamp comes first.
_STAMP = 4
_SECOND_NS = 1_000_000_000


def stamp_ns(message: Any) -> int:
    """Return the header stamp of a stamped message in nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec) * _SECOND_NS + int(stamp.nanosec)


def read_stamp(cdr: bytes) -> int:
    """Return the header stamp, in nanoseconds, of a serialised message that begins with a header.

    Raises:
        ValueError: the message is too short for a stamp.
    """
    layout = _layout(cdr)
    seconds, nanoseconds = layout.unpack_from(cdr, _STAMP)
    return int(seconds) * _SECOND_NS + int(nanoseconds)


def with_stamp(cdr: bytes, stamp: int) -> bytes:
    """Return a serialised message with another header stamp.

    Args:
        cdr: a serialised message that begins with a ``std_msgs/Header``, of either byte order.
        stamp: the new stamp in nanoseconds.

    Raises:
        ValueError: the stamp is before 1970 or after 2038, or the message is too short for one.
    """
    layout = _layout(cdr)
    seconds, nanoseconds = divmod(stamp, _SECOND_NS)
    if not 0 <= seconds < 2**31:
        raise ValueError(f'a stamp of {seconds} s does not fit a ROS header')
    body = memoryview(cdr)
    return b''.join((body[:_STAMP], layout.pack(seconds, nanoseconds), body[_STAMP + 8 :]))


def _layout(cdr: bytes) -> struct.Struct:
    if len(cdr) < _STAMP + 8:
        raise ValueError(f'a message of {len(cdr)} bytes has no header')
    return struct.Struct(('<' if cdr[1] & 1 else '>') + 'iI')

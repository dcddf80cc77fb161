"""Moves the header stamp of a serialised message without deserialising the image behind it."""

from __future__ import annotations

import struct

# CDR: two bytes of representation, two of options, then the header, whose stamp comes first.
_STAMP = 4
_SECOND_NS = 1_000_000_000


def restamped(cdr: bytes, offset_ns: int) -> bytes:
    """Return a stamped message with its stamp moved.

    Args:
        cdr: a serialised message that begins with a ``std_msgs/Header``, of either byte order.
        offset_ns: nanoseconds to add to the stamp.

    Raises:
        ValueError: the new stamp is before 1970 or after 2038.
    """
    layout = struct.Struct(('<' if cdr[1] & 1 else '>') + 'iI')
    seconds, nanoseconds = layout.unpack_from(cdr, _STAMP)
    stamp = divmod(seconds * _SECOND_NS + nanoseconds + offset_ns, _SECOND_NS)
    if not 0 <= stamp[0] < 2**31:
        raise ValueError(f'a stamp of {stamp[0]} s does not fit a ROS header')
    body = memoryview(cdr)
    return b''.join((body[:_STAMP], layout.pack(*stamp), body[_STAMP + layout.size :]))

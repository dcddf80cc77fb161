# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct

import pytest

from multishift_perception.bags import read_stamp, with_stamp

BODY = b'frame and pixels'


def message(seconds: int, nanoseconds: int, order: str = '<') -> bytes:
    representation = b'\x00\x01\x00\x00' if order == '<' else b'\x00\x00\x00\x00'
    return representation + struct.pack(f'{order}iI', seconds, nanoseconds) + BODY


@pytest.mark.parametrize('order', ['<', '>'])
def test_changes_the_stamp_and_nothing_else(order: str) -> None:
    before = message(100, 900_000_000, order)
    assert read_stamp(before) == 100_900_000_000
    assert with_stamp(before, 103_100_000_000) == message(103, 100_000_000, order)


@pytest.mark.parametrize('stamp', [-1, 2**31 * 1_000_000_000])
def test_refuses_stamps_that_ros_cannot_hold(stamp: int) -> None:
    with pytest.raises(ValueError, match='does not fit'):
        with_stamp(message(1, 0), stamp)


def test_refuses_messages_without_a_header() -> None:
    with pytest.raises(ValueError, match='8 bytes has no header'):
        read_stamp(b'\x00\x01\x00\x00\x05\x00\x00\x00')

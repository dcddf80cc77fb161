from __future__ import annotations

import struct

import pytest

from multishift_perception.demo.restamp import restamped

BODY = b'frame and pixels'


def message(seconds: int, nanoseconds: int, order: str = '<') -> bytes:
    representation = b'\x00\x01\x00\x00' if order == '<' else b'\x00\x00\x00\x00'
    return representation + struct.pack(f'{order}iI', seconds, nanoseconds) + BODY


@pytest.mark.parametrize('order', ['<', '>'])
def test_moves_the_stamp_and_nothing_else(order: str) -> None:
    moved = restamped(message(100, 900_000_000, order), 2_200_000_000)
    assert moved == message(103, 100_000_000, order)


def test_moves_back() -> None:
    assert restamped(message(100, 0), -1) == message(99, 999_999_999)


@pytest.mark.parametrize('offset', [-2_000_000_000, 2**31 * 1_000_000_000])
def test_refuses_stamps_that_ros_cannot_hold(offset: int) -> None:
    with pytest.raises(ValueError, match='does not fit'):
        restamped(message(1, 0), offset)

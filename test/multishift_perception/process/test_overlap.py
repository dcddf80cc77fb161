# SPDX-License-Identifier: Apache-2.0
"""Threads that read ahead and follow: order, bounds, faults, and an end."""

from __future__ import annotations

from collections.abc import Iterator
import threading

import pytest

from multishift_perception.process.overlap import following, read_ahead


def running() -> int:
    return sum(t.name.startswith(('read ahead', 'follower')) for t in threading.enumerate())


def test_items_come_in_order_and_few_are_read_ahead() -> None:
    read = []

    def items() -> Iterator[int]:
        for i in range(20):
            read.append(i)
            yield i

    taken = []
    for item in read_ahead(items(), 3):
        taken.append(item)
        # Those that wait, the one that is taken, and the one that finds no room.
        assert len(read) <= item + 5
    assert taken == list(range(20))
    assert running() == 0


def test_a_fault_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError('broken')

    ahead = read_ahead(items(), 3)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match='broken'):
        next(ahead)
    assert running() == 0


def test_whoever_stops_early_leaves_no_thread() -> None:
    ahead = read_ahead(iter(range(1000)), 2)
    assert next(ahead) == 0
    ahead.close()
    assert running() == 0


def test_calls_are_done_in_order_when_the_block_ends() -> None:
    done: list[int] = []
    with following(2) as follower:
        for i in range(50):
            follower.call(done.append, i)
    assert done == list(range(50))
    assert running() == 0


def test_a_fault_of_a_call_is_raised_and_ends_the_thread() -> None:
    def fail() -> None:
        raise ValueError('broken')

    with pytest.raises(ValueError, match='broken'), following(2) as follower:
        follower.call(fail)
    assert running() == 0

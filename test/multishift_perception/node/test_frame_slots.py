# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from threading import Thread
import time
from typing import Any

import pytest

from multishift_perception.node.frame_slots import FrameSlots
from multishift_perception.node.worker import Worker

LONG = 30.0  # longer than any test may take: nothing waits for it


@pytest.fixture
def slots():
    slots = FrameSlots(lambda: 42.0)
    slots.expect(frozenset({'front', 'left'}))
    return slots


def test_the_newest_frame_wins(slots):
    assert not slots.put('front', 'old')
    assert slots.put('front', 'new')
    taken = slots.take(0, 1)
    assert {name: arrival.message for name, arrival in taken.items()} == {'front': 'new'}
    assert taken['front'].received_at == 42.0
    assert not slots.put('front', 'next')


def test_all_frames_there_are_make_one_batch(slots):
    slots.put('front', 1)
    slots.put('left', 2)
    assert slots.take(LONG, 4).keys() == {'front', 'left'}


def test_a_full_batch_does_not_wait(slots):
    slots.put('front', 1)
    assert slots.take(LONG, 1).keys() == {'front'}


def test_a_missing_camera_is_waited_for_no_longer_than_told(slots):
    slots.put('front', 1)
    assert slots.take(0.01, 2).keys() == {'front'}


def test_a_camera_that_comes_in_time_joins_the_batch(slots):
    slots.put('front', 1)
    Thread(target=lambda: (time.sleep(0.02), slots.put('left', 2))).start()
    assert slots.take(LONG, 2).keys() == {'front', 'left'}


def test_a_camera_that_nobody_watches_is_not_waited_for(slots):
    slots.expect(frozenset({'front'}))
    slots.put('front', 1)
    assert slots.take(LONG, 2).keys() == {'front'}


def test_the_frame_of_a_camera_gone_is_dropped(slots):
    slots.put('front', 1)
    slots.put('left', 2)
    slots.expect(frozenset({'left'}))
    assert slots.take(0, 2).keys() == {'left'}


def test_going_out_of_use_during_the_wait_does_not_end_the_worker(slots):
    batches: list[Mapping[str, Any]] = []
    worker = Worker(slots, batches.append, batch=2, max_wait=lambda: LONG)
    slots.put('front', 1)
    slots.expect(frozenset())
    slots.expect(frozenset({'left'}))
    slots.put('left', 2)
    end = time.monotonic() + LONG
    while not any('left' in batch for batch in batches) and time.monotonic() < end:
        time.sleep(0.005)
    assert worker.is_alive
    worker.stop()
    assert not worker.is_alive
    assert 'left' in batches[-1]


def test_closing_wakes_the_taker(slots):
    Thread(target=lambda: (time.sleep(0.02), slots.close())).start()
    assert slots.take(0, 1) == {}

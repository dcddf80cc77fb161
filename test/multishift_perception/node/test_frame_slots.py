# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from threading import Event, Thread
import time

import pytest

from multishift_perception.node.frame_slots import FrameSlots
from multishift_perception.node.worker import Worker

LONG = 30.0  # longer than any test may take: nothing waits for it


def at_most(largest):
    """An engine that takes any number of frames up to one."""
    return lambda waiting: min(waiting, largest)


def of_sizes(*sizes):
    return lambda waiting: max((n for n in sizes if n <= waiting), default=sizes[0])


class Clock:
    """Steady time with an offset, so that cameras can have a past."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def slots(clock):
    slots = FrameSlots(clock)
    slots.expect(frozenset({'front', 'left', 'rear'}))
    return slots


def rhythm(slots, clock, camera, *, interval, ago):
    """Have a camera send regularly, the last time some seconds ago; nothing of it waits."""
    clock.ahead -= interval + ago
    slots.put(camera)
    clock.ahead += interval
    slots.put(camera)
    clock.ahead += ago
    assert slots.take(0, at_most(1)) == [camera]


def test_frames_that_are_not_taken_give_way(slots):
    assert slots.put('front') == 0
    assert slots.put('front') == 1
    assert slots.put('front', 3) == 3
    assert slots.take(0, at_most(1)) == ['front']
    assert slots.put('front', 3) == 2


def test_the_rhythm_counts_frames_that_come_together(slots, clock):
    clock.ahead -= 3 * LONG
    slots.put('left')
    clock.ahead += 2 * LONG
    slots.put('left', 2)  # one a LONG, so that the next is due now
    clock.ahead += 0.99 * LONG
    assert slots.take(0, at_most(1)) == ['left']
    slots.put('front')
    Thread(target=lambda: (time.sleep(0.02), slots.put('left'))).start()
    assert set(slots.take(LONG, at_most(2))) == {'front', 'left'}


def test_all_frames_there_are_make_one_call(slots):
    slots.put('front')
    slots.put('left')
    assert set(slots.take(LONG, at_most(4))) == {'front', 'left'}


@pytest.mark.parametrize(
    ('sizes', 'taken'), [((1,), 1), ((1, 2, 4), 2), ((1, 2, 3), 3), ((4,), 3)]
)
def test_a_turn_is_what_fills_one_call(slots, sizes, taken):
    for camera in ('front', 'left', 'rear'):
        slots.put(camera)
    assert len(slots.take(0, of_sizes(*sizes))) == taken


def test_turns_go_round(slots):
    turns = []
    for _ in range(7):
        for camera in ('front', 'left', 'rear'):
            slots.put(camera)  # all of them always have a frame
        turns += slots.take(0, at_most(1))
    assert turns == ['front', 'left', 'rear'] * 2 + ['front']


def test_a_quick_camera_takes_no_turn_of_others(slots):
    turns = []
    for camera in ('left', 'rear'):
        slots.put(camera)
    for _ in range(4):
        slots.put('front')
        turns += slots.take(0, at_most(1))
    assert turns[:3] == ['left', 'rear', 'front']


def test_a_full_call_does_not_wait(slots, clock):
    rhythm(slots, clock, 'left', interval=LONG, ago=LONG / 2)
    slots.put('front')
    assert set(slots.take(LONG, at_most(1))) == {'front'}


def test_a_camera_that_never_sent_is_not_waited_for(slots):
    slots.put('front')
    assert set(slots.take(LONG, at_most(2))) == {'front'}


def test_a_silent_camera_is_not_waited_for(slots, clock):
    rhythm(slots, clock, 'left', interval=1.0, ago=LONG)
    slots.put('front')
    assert set(slots.take(LONG, at_most(2))) == {'front'}


def test_a_camera_that_is_due_too_late_is_not_waited_for(slots, clock):
    rhythm(slots, clock, 'left', interval=3 * LONG, ago=0.0)
    slots.put('front')
    assert set(slots.take(LONG, at_most(2))) == {'front'}


def test_nobody_waits_for_a_frame_that_fills_no_larger_call(slots, clock):
    rhythm(slots, clock, 'left', interval=LONG, ago=LONG / 2)
    slots.put('front')
    slots.put('rear')
    assert set(slots.take(LONG, of_sizes(1, 2, 4))) == {'front', 'rear'}


def test_a_camera_is_waited_for_no_longer_than_told(slots, clock):
    rhythm(slots, clock, 'left', interval=0.02, ago=0.019)
    slots.put('front')
    assert set(slots.take(0.01, at_most(2))) == {'front'}


def test_a_camera_that_comes_in_time_joins_the_call(slots, clock):
    rhythm(slots, clock, 'left', interval=LONG, ago=LONG / 2)
    slots.put('front')
    Thread(target=lambda: (time.sleep(0.02), slots.put('left'))).start()
    assert set(slots.take(LONG, at_most(2))) == {'front', 'left'}


def test_a_camera_that_nobody_watches_is_not_waited_for(slots, clock):
    rhythm(slots, clock, 'left', interval=LONG, ago=LONG / 2)
    slots.expect(frozenset({'front'}))
    slots.put('front')
    assert set(slots.take(LONG, at_most(2))) == {'front'}


def test_the_frame_of_a_camera_gone_is_dropped(slots):
    slots.put('front')
    slots.put('left')
    slots.expect(frozenset({'left'}))
    assert set(slots.take(0, at_most(2))) == {'left'}


def test_going_out_of_use_during_the_wait_does_not_end_the_worker(slots, clock):
    rhythm(slots, clock, 'rear', interval=LONG, ago=LONG / 2)
    batches: list[Sequence[str]] = []
    worker = Worker(slots, batches.append, call_size=at_most(2), max_wait=lambda: LONG)
    slots.put('front')
    slots.expect(frozenset())
    slots.expect(frozenset({'left'}))
    slots.put('left')
    end = time.monotonic() + LONG
    while not any('left' in batch for batch in batches) and time.monotonic() < end:
        time.sleep(0.005)
    assert worker.is_alive
    assert worker.stop(LONG)
    assert not worker.is_alive
    assert 'left' in batches[-1]


def test_a_worker_that_cannot_be_stopped_goes_on(slots):
    begun, ended, batches = Event(), Event(), []

    def process(batch):
        batches.append(batch)
        begun.set()
        ended.wait(LONG)

    worker = Worker(slots, process, call_size=at_most(1), max_wait=lambda: 0.0)
    slots.put('front')
    assert begun.wait(LONG)
    assert not worker.stop(0.0)
    begun.clear()
    ended.set()
    slots.put('left')
    assert begun.wait(LONG)
    assert worker.stop(LONG)
    assert batches[-1] == ['left']


def test_a_process_that_stood_still_is_patient_afterwards(slots, monkeypatch):
    begun, ended = Event(), Event()

    def process(batch):
        begun.set()
        ended.wait(LONG)

    worker = Worker(slots, process, call_size=at_most(1), max_wait=lambda: 0.0)
    slots.put('front')
    assert begun.wait(LONG)
    join = worker._thread.join

    def join_after_a_pause(patience):
        if not ended.is_set():  # the clock has gone on, and the thread has not
            ended.set()
        else:
            join(patience)

    monkeypatch.setattr(worker._thread, 'join', join_after_a_pause)
    assert worker.stop(LONG)


def test_closing_wakes_the_taker(slots):
    Thread(target=lambda: (time.sleep(0.02), slots.close())).start()
    assert slots.take(0, at_most(1)) == []

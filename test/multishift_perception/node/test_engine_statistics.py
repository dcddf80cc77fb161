# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from multishift_perception.node.engine_statistics import EngineStatistics
from multishift_perception.node.recent import WINDOW_S


class FakeClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def statistics(clock):
    return EngineStatistics(clock)


def call(statistics, clock, seconds):
    with statistics.call():
        clock.now += seconds


def test_calls_are_those_of_the_engine_and_of_the_window(statistics, clock):
    assert statistics.report().frames_per_call is None
    call(statistics, clock, 0.5)
    statistics.turn(4, 0.6)
    clock.now += WINDOW_S + 1
    for frames, seconds in ((1, 0.01), (2, 0.03)):
        call(statistics, clock, seconds)
        statistics.turn(frames, seconds + 0.04)
    report = statistics.report()
    assert report.calls == 3
    assert report.calls_hz == pytest.approx(2 / WINDOW_S)
    assert report.frames_per_call == 1.5
    assert report.call_time.p50 == pytest.approx(20)
    assert report.turn_time.p50 == pytest.approx(60)
    assert report.capacity_hz == pytest.approx(3 / 0.12)


def test_a_call_whose_turn_goes_on_changes_no_mean(statistics, clock):
    call(statistics, clock, 0.01)
    assert statistics.report().frames_per_call is None
    statistics.turn(2, 0.02)
    call(statistics, clock, 0.01)
    assert statistics.report().frames_per_call == 2
    statistics.turn(0, 0.02)  # it failed
    assert statistics.report().frames_per_call == 2


def test_a_fault_is_counted_for_ever_and_recently(statistics, clock):
    fault = RuntimeError('out of memory')
    assert statistics.fail(fault)
    assert not statistics.fail(fault)
    report = statistics.report()
    assert (report.calls, report.faults, report.recent_faults) == (0, 2, 2)
    assert report.call_time.p50 is None
    clock.now += WINDOW_S + 1
    report = statistics.report()
    assert (report.faults, report.recent_faults) == (2, 0)
    assert report.last_fault == 'RuntimeError: out of memory'


def test_a_call_that_fails_is_no_call(statistics):
    with pytest.raises(RuntimeError), statistics.call():
        raise RuntimeError
    assert statistics.report().calls == 0


def test_what_calls_usually_take_says_when_one_is_stuck(clock):
    quick, slow = EngineStatistics(clock, 0.02), EngineStatistics(clock, 3.0)
    assert quick.stuck_after_s == 1.5
    assert slow.stuck_after_s == 15.0
    call(slow, clock, 0.5)
    assert slow.stuck_after_s == 15.0


def test_one_call_that_hung_does_not_hide_the_next_but_slower_calls_are_no_hang(clock):
    statistics = EngineStatistics(clock, 0.02)
    call(statistics, clock, 60.0)
    assert statistics.stuck_after_s == 1.5
    call(statistics, clock, 0.5)
    call(statistics, clock, 0.6)
    assert statistics.stuck_after_s == 2.5

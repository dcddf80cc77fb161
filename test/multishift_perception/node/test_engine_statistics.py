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


def call(statistics, clock, frames, seconds, fault=None):
    with statistics.call(frames):
        clock.now += seconds
        if fault:
            raise fault


def test_sizes_and_durations_are_of_the_window(statistics, clock):
    assert statistics.report().mean_batch is None
    call(statistics, clock, 4, 0.5)
    clock.now += WINDOW_S + 1
    call(statistics, clock, 1, 0.01)
    call(statistics, clock, 2, 0.03)
    report = statistics.report()
    assert report.calls == 3
    assert report.mean_batch == 1.5
    assert report.call_time.p50 == pytest.approx(20)


def test_a_fault_is_counted_for_ever_and_recently_and_goes_on(statistics, clock):
    with pytest.raises(RuntimeError, match='out of memory'):
        call(statistics, clock, 1, 0.1, RuntimeError('out of memory'))
    report = statistics.report()
    assert (report.calls, report.faults, report.recent_faults) == (0, 1, 1)
    assert report.call_time.p50 is None
    clock.now += WINDOW_S + 1
    report = statistics.report()
    assert (report.faults, report.recent_faults) == (1, 0)
    assert report.last_fault == 'RuntimeError: out of memory'

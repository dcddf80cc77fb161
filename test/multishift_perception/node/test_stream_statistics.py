# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from multishift_perception.node.activity import Stage
from multishift_perception.node.recent import WINDOW_S
from multishift_perception.node.stream_statistics import StreamStatistics


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def statistics(clock):
    return StreamStatistics(clock)


def test_an_unwatched_camera_is_not_silent(statistics, clock):
    clock.now += 60
    report = statistics.report()
    assert report.watched_s is None
    assert report.silent_s == 0


def test_rates_and_percentiles_are_of_the_window(statistics, clock):
    statistics.watch(True)
    for i in range(100):  # 10 Hz for ten seconds; the first five are forgotten
        clock.now += 0.1
        statistics.receive()
        if i % 2:
            statistics.process(
                received_at=clock.now - i / 1000, from_stamp=0.02, stages={Stage.ENGINE: 0.007}
            )
    report = statistics.report()
    assert report.received == 100
    assert report.processed == 50
    assert report.received_hz == pytest.approx(10, rel=0.03)
    assert report.processed_hz == pytest.approx(5, rel=0.05)
    assert report.from_receipt.p50 == pytest.approx(75, abs=2)
    assert report.from_receipt.p99 == pytest.approx(99, abs=1)
    assert report.from_stamp.p50 == pytest.approx(20)
    assert report.stages[Stage.ENGINE].p95 == pytest.approx(7)
    assert report.stages[Stage.DECODE].p50 is None


def test_rates_begin_anew_with_the_subscription(statistics, clock):
    statistics.watch(True)
    for _ in range(40):
        clock.now += 0.1
        statistics.receive()
        statistics.process(received_at=clock.now, from_stamp=0.02, stages={})
    statistics.watch(False)
    statistics.watch(True)
    clock.now += 1
    report = statistics.report()
    assert report.received_hz == report.processed_hz == 0
    assert report.received == report.processed == 40


def test_an_unbelievable_stamp_gives_no_latency(statistics, clock):
    statistics.process(received_at=clock.now - 0.01, from_stamp=None, stages={})
    assert statistics.report().from_stamp.p50 is None
    assert statistics.report().from_receipt.p50 == pytest.approx(10)


def test_drops_are_counted_by_cause_for_ever_and_recently(statistics, clock):
    statistics.drop('stale')
    clock.now += WINDOW_S + 1
    statistics.drop('stale')
    statistics.drop('broken')
    report = statistics.report()
    assert report.dropped == {'stale': 2, 'broken': 1}
    assert report.recent_dropped == {'stale': 1, 'broken': 1}


def test_losses_are_counted_for_ever_and_recently(statistics, clock):
    statistics.lose(3)
    clock.now += WINDOW_S + 1
    statistics.lose(2)
    assert (statistics.report().lost, statistics.report().recent_lost) == (5, 2)


def test_silence_counts_from_the_subscription_then_from_the_last_frame(statistics, clock):
    statistics.watch(True)
    clock.now += 4
    assert statistics.report().silent_s == 4
    assert not statistics.report().received_since_watched
    statistics.receive()
    clock.now += 2
    assert statistics.report().silent_s == 2
    assert statistics.report().received_since_watched
    statistics.watch(True)
    assert not statistics.report().received_since_watched


def test_a_stamp_fault_is_forgotten_with_the_window(statistics, clock):
    statistics.note_stamp('zero')
    assert statistics.report().stamp_fault == 'zero'
    clock.now += WINDOW_S + 1
    assert statistics.report().stamp_fault is None

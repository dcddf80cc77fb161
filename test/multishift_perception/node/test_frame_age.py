# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from multishift_perception.node.frame_age import StampFault, is_late, judge

NOW = 1_800_000_000 * 10**9
MS = 10**6


@pytest.mark.parametrize(
    ('age_ms', 'limit_ms', 'drop'),
    [
        (0, 200, None),
        (200, 200, None),
        (201, 200, 'stale'),
        (59_000, 200, 'stale'),
        (5000, 0, None),
    ],
)
def test_old_frames_are_stale(age_ms, limit_ms, drop):
    age = judge(NOW - age_ms * MS, NOW, limit_ms)
    assert age.drop == drop
    assert age.seconds == pytest.approx(age_ms / 1000)
    assert age.fault is None


def test_a_clock_that_is_slightly_ahead_is_tolerated():
    age = judge(NOW + 500 * MS, NOW, 200)
    assert (age.seconds, age.fault, age.drop) == (0.0, None, None)


@pytest.mark.parametrize(
    ('stamp', 'limit_ms', 'drop', 'fault', 'said'),
    [
        (1000 * 10**9, 200, 'clock', StampFault.BEHIND, '1799999000 s behind'),
        (1000 * 10**9, 0, None, StampFault.BEHIND, 'behind'),
        (NOW + 7200 * 10**9, 200, None, StampFault.AHEAD, '7200 s ahead'),
    ],
)
def test_stamps_of_another_clock_have_no_age(stamp, limit_ms, drop, fault, said):
    age = judge(stamp, NOW, limit_ms)
    assert age.seconds is None
    assert age.drop == drop
    assert age.fault == fault
    assert said in age.words
    assert not is_late(age, stamp, NOW, limit_ms)


def test_no_stamp_and_no_clock_are_kept_and_flagged():
    assert 'zero' in judge(0, NOW, 200).words
    assert judge(0, NOW, 200).drop is None
    assert '/clock' in judge(NOW, 0, 200).words
    assert judge(NOW, 0, 200).drop is None


@pytest.mark.parametrize(('limit_ms', 'late'), [(200, True), (250, False), (0, False)])
def test_a_frame_may_grow_too_old_meanwhile(limit_ms, late):
    stamp = NOW - 150 * MS
    assert is_late(judge(stamp, NOW, limit_ms), stamp, NOW + 100 * MS, limit_ms) == late

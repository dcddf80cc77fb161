# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from multishift_perception.node.frame_age import judge

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
    ('stamp', 'limit_ms', 'drop', 'said'),
    [
        (1000 * 10**9, 200, 'clock', '1799999000 s behind'),
        (1000 * 10**9, 0, None, 'behind'),
        (NOW + 7200 * 10**9, 200, None, '7200 s ahead'),
    ],
)
def test_stamps_of_another_clock_have_no_age(stamp, limit_ms, drop, said):
    age = judge(stamp, NOW, limit_ms)
    assert age.seconds is None
    assert age.drop == drop
    assert said in age.fault


def test_no_stamp_and_no_clock_are_kept_and_flagged():
    assert 'zero' in judge(0, NOW, 200).fault
    assert judge(0, NOW, 200).drop is None
    assert '/clock' in judge(NOW, 0, 200).fault
    assert judge(NOW, 0, 200).drop is None

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import pytest

from multishift_perception.demo.restamp import PlayStamps

MS = 1_000_000
TIMES = [1000 * MS, 1250 * MS, 1500 * MS]


def played(own: Sequence[int], times: Sequence[int] = TIMES) -> tuple[list[int], list[str]]:
    stamps = PlayStamps()
    found = [stamps.of('/t', stamp, time) for stamp, time in zip(own, times, strict=True)]
    return found, stamps.warnings()


def test_stamps_of_a_live_camera_are_kept() -> None:
    own = [980 * MS, 1190 * MS, 1501 * MS]
    assert played(own) == (own, [])


@pytest.mark.parametrize(
    ('own', 'fault'),
    [
        ([0, 0, 0], 'their header stamps are zero'),
        ([500 * MS, 750 * MS, 1000 * MS], 'their header stamps are 0.5 s behind it'),
        ([12_000 * MS, 12_250 * MS, 12_500 * MS], 'their header stamps are 11.0 s ahead of it'),
    ],
)
def test_stamps_of_another_clock_give_way_to_the_time_of_the_bag(
    own: list[int], fault: str
) -> None:
    stamps, (warning,) = played(own)
    assert stamps == TIMES
    assert warning.startswith('3 messages on /t were played') and fault in warning


def test_from_the_first_fault_on_all_stamps_are_of_the_bag() -> None:
    times = [1000 * MS, 1050 * MS, 1500 * MS]
    stamps, (warning,) = played([990 * MS, 990 * MS, 1490 * MS], times)
    assert stamps == [990 * MS, *times[1:]]
    assert warning.startswith('2 messages') and 'do not increase' in warning


def test_no_two_frames_of_a_topic_have_one_stamp_and_topics_do_not_mix() -> None:
    assert played([0, 0, 0], [7, 7, 6])[0] == [0, 7, 8]
    stamps = PlayStamps()
    assert stamps.of('/a', 0, TIMES[0]) == TIMES[0]
    assert stamps.of('/b', TIMES[0], TIMES[0]) == TIMES[0]
    assert len(stamps.warnings()) == 1

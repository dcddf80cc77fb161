# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from multishift_perception.node.lost_frames import SequenceGaps


@pytest.mark.parametrize(
    ('numbers', 'lost'),
    [
        ([7, 8, 9], [0, 0, 0]),  # the first one says nothing of those before the subscription
        ([1, 2, 5, 6], [0, 0, 2, 0]),
        ([8, 9, 1, 2, 4], [0, 0, 0, 0, 1]),  # the publisher was started again
    ],
)
def test_gaps_are_lost_frames(numbers, lost):
    gaps = SequenceGaps()
    assert [gaps.lost_before(number) for number in numbers] == lost


def test_nothing_is_lost_between_two_publishers():
    gaps = SequenceGaps()
    gaps.lost_before(3)
    gaps.forget()
    assert gaps.lost_before(900) == 0

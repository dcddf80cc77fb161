# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from multishift_perception.node.lost_frames import LostFrames


@pytest.mark.parametrize(
    ('frames', 'lost'),
    [
        # How many were received since the last one that is looked at, and the number of this one.
        ([(1, 7), (1, 8), (1, 9)], [0, 0, 0]),  # the first says nothing of those before it
        ([(1, 1), (1, 2), (1, 5), (1, 6)], [0, 0, 2, 0]),
        ([(1, 1), (4, 5), (3, 9), (1, 10)], [0, 0, 1, 0]),  # others were received and gave way
        ([(1, 8), (1, 9), (1, 1), (1, 2), (1, 4)], [0, 0, 0, 0, 1]),  # a publisher started again
        ([(1, 1), (3, 3), (0, 4), (1, 6)], [0, 0, 0, 1]),  # one came while another was taken
    ],
)
def test_what_was_numbered_and_not_received_is_lost(frames, lost):
    losses = LostFrames()
    found = []
    for received, number in frames:
        losses.receive(received)
        found.append(losses.lost_before(number)[0])
    assert found == lost


def test_a_frame_that_is_taken_while_it_comes_is_not_lost_though_nobody_told_of_it():
    losses = LostFrames()
    losses.receive(1)
    losses.lost_before(1)
    losses.receive(1)
    assert losses.lost_before(3, is_noted=False) == (0, 1)
    losses.receive(1)
    assert losses.lost_before(4) == (0, 0)
    assert losses.lost_before(7, is_noted=False) == (2, 1)


def test_a_frame_that_came_after_the_first_counts_as_received():
    losses = LostFrames()
    losses.receive(2)
    losses.lost_before(3, later=1)
    assert losses.lost_before(4) == (0, 0)


def test_nothing_is_lost_between_two_publishers():
    losses = LostFrames()
    losses.lost_before(3)
    losses.forget()
    assert losses.lost_before(900) == (0, 0)

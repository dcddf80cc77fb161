# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from multishift_perception.tracking import Tracker


def test_what_moves_keeps_its_number() -> None:
    tracker = Tracker()
    for i in range(20):
        # One grows as it comes near, one is small and jumps by its own width; their order changes.
        boxes = [(100 + 3 * i, 50 + i, 20 + i, 30 + i), (400 - 6 * i, 80, 6, 8)]
        order = [0, 1] if i % 2 == 0 else [1, 0]
        assert tracker.follow([boxes[k] for k in order]) == [k + 1 for k in order]


def test_the_pair_that_overlaps_most_is_matched_first() -> None:
    tracker = Tracker()
    assert tracker.follow([(0, 0, 20, 20), (15, 0, 20, 20)]) == [1, 2]
    assert tracker.follow([(14, 0, 20, 20), (1, 0, 20, 20)]) == [2, 1]


def test_no_two_boxes_share_a_number() -> None:
    tracker = Tracker()
    tracker.follow([(0, 0, 40, 40)])
    assert tracker.follow([(0, 0, 20, 40), (18, 0, 22, 40)]) == [2, 1]


def test_a_number_comes_with_the_least_hits() -> None:
    tracker = Tracker()
    box = (0, 0, 10, 10)
    assert [tracker.follow([box], min_hits=3)[0] for _ in range(4)] == [None, None, 1, 1]


def test_what_is_missing_for_a_while_has_the_number_that_it_had() -> None:
    tracker = Tracker()
    box = (0, 0, 10, 10)
    tracker.follow([box])
    for _ in range(5):
        tracker.follow([])
    assert tracker.follow([box]) == [1]
    for _ in range(6):
        tracker.follow([])
    assert tracker.follow([box]) == [2]

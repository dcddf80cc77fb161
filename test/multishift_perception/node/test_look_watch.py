# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from multishift_perception.node.look_watch import LookWatch


class Drive:
    """Frames at 10 Hz."""

    def __init__(self) -> None:
        self.now = 0.0
        self.watch = LookWatch(lambda: self.now)

    def go(self, distance: float, seconds: float) -> bool:
        for _ in range(round(10 * seconds)):
            self.now += 0.1
            self.watch.add(distance)
        return self.watch.is_strange


@pytest.fixture
def drive() -> Drive:
    return Drive()


def test_it_leaves_late_and_returns_later(drive: Drive) -> None:
    assert not drive.go(0.7, 5.0)
    assert not drive.go(3.0, 0.2), 'a glare is no other world'
    assert not drive.go(0.7, 3.0)
    assert drive.go(1.5, 5.0)
    assert drive.go(0.95, 20.0), 'between the borders it stays what it was'
    assert not drive.go(0.7, 10.0)
    assert not drive.go(0.95, 20.0)


def test_what_is_not_finite_is_far_and_does_not_last(drive: Drive) -> None:
    assert drive.go(float('nan'), 0.1)
    assert drive.watch.distance == 100.0
    assert not drive.go(0.5, 20.0)


def test_it_starts_anew(drive: Drive) -> None:
    drive.go(5.0, 1.0)
    drive.watch.forget()
    assert drive.watch.distance is None
    assert not drive.watch.is_strange

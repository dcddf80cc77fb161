# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from threading import Event

import pytest
import rclpy

from multishift_perception.node.lookout import Lookout

LIMIT_S = 30.0


class Sight:
    """What is looked at."""

    def __init__(self, fault: Exception | None = None, *, until: int = 3) -> None:
        self.looks = 0
        self.is_seen = Event()
        self._fault, self._until = fault, until

    def look(self) -> None:
        self.looks += 1
        if self.looks == self._until:
            self.is_seen.set()
        if self._fault:
            raise self._fault


@pytest.mark.parametrize('fault', [None, RuntimeError('gone')])
def test_it_looks_until_it_is_closed_whatever_it_meets(fault, monkeypatch):
    monkeypatch.setattr(rclpy, 'ok', lambda: True)
    sight = Sight(fault)
    lookout = Lookout(0.001, sight.look)
    assert sight.is_seen.wait(LIMIT_S)
    lookout.close()
    looks = sight.looks
    assert not Event().wait(0.02)
    assert sight.looks == looks


def test_what_fails_while_the_process_ends_is_no_news(monkeypatch, caplog):
    monkeypatch.setattr(rclpy, 'ok', lambda: False)
    sight = Sight(RuntimeError('gone'), until=1)
    lookout = Lookout(0.001, sight.look)
    assert sight.is_seen.wait(LIMIT_S)
    lookout.close()
    assert sight.looks == 1
    assert not caplog.records

# SPDX-License-Identifier: Apache-2.0
"""Live footage: the newest frame, closed when nobody looks, opened again when it breaks off."""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import PurePath
from threading import Condition
from time import monotonic, sleep

import numpy as np
import pytest

from multishift_perception.footage import Footage, Frame
from multishift_perception.view import player as module
from multishift_perception.view.player import Player, Playing


class Camera:
    """A camera of this machine that a test plays, and whoever looks at it."""

    def __init__(self) -> None:
        self.opened = 0
        self.is_open = False
        self.is_watched = True
        self.breaks_at: int | None = None

    def open(self, source, stack, *, every):
        self.opened += 1
        self.is_open = True
        stack.callback(self.close)
        return [Footage('camera', None, self.frames(), rate=30, is_live=True)]

    def close(self):
        self.is_open = False

    def frames(self):
        for number in count():
            if self.breaks_at is not None and number >= self.breaks_at:
                return
            sleep(0.002)
            yield Frame('', PurePath(), partial(np.full, (2, 2, 3), number))


@pytest.fixture
def camera(monkeypatch):
    camera = Camera()
    monkeypatch.setattr(module, 'open_footage', camera.open)
    monkeypatch.setattr(module, '_RETRY_S', 0.01)
    monkeypatch.setattr(module, '_LINGER_S', 0.05)
    return camera


@pytest.fixture
def change():
    return Condition()


@pytest.fixture
def player(camera, change):
    player = Player('0', 0, Playing(), change=change, is_watched=lambda: camera.is_watched)
    player.start()
    yield player
    assert player.close(20)
    assert not camera.is_open


def until(holds) -> None:
    end = monotonic() + 20
    while not holds():
        assert monotonic() < end
        sleep(0.002)


def test_a_newer_frame_replaces_an_older(player, change):
    until(lambda: player.received >= 5)
    with change:
        image, came = player.take()
        assert player.take() is None
        assert player.dropped['superseded'] == player.received - 1 == image[0, 0, 0]
        assert came <= monotonic()


def test_it_is_closed_when_nobody_looks_and_opened_for_who_comes(camera, player, change):
    until(lambda: player.received)
    camera.is_watched = False
    until(lambda: not camera.is_open)
    camera.is_watched = True
    with change:
        change.notify_all()
    until(lambda: camera.opened == 2 and camera.is_open)
    assert not player.fault


def test_what_breaks_off_is_said_and_opened_again(camera, player, caplog):
    camera.breaks_at = 3
    until(lambda: camera.opened >= 3)
    assert {record.message for record in caplog.records} == {
        'camera: no more frames come; it is opened again'
    }

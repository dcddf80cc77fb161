# SPDX-License-Identifier: Apache-2.0
"""How cameras are mounted, as tf tells it; a stand-in in tf2_ros's place, which has no wheel."""

from __future__ import annotations

import logging
import math
import sys
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip('rclpy')

from multishift_perception.errors import MultishiftError
from multishift_perception.node.mounting import TransformMountings
from multishift_perception.node.parameters import CameraSettings

PITCH = 0.2
NODE: Any = SimpleNamespace()


def product(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def optical(*, pitch: float, yaw: float = 0.0, roll: float = 0.0) -> SimpleNamespace:
    """An optical frame (right, down, forward) of a camera 1.5 m above a frame with z upwards."""
    turns = [
        (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)),
        (0.0, math.sin(pitch / 2), 0.0, math.cos(pitch / 2)),
        (math.sin(roll / 2), 0.0, 0.0, math.cos(roll / 2)),
        (-0.5, 0.5, -0.5, 0.5),  # of a body's frame (forward, left, up)
    ]
    whole: tuple[float, ...] = turns[0]
    for turn in turns[1:]:
        whole = product(whole, turn)
    x, y, z, w = whole
    rotation = SimpleNamespace(x=x, y=y, z=z, w=w)
    return SimpleNamespace(rotation=rotation, translation=SimpleNamespace(x=2.0, y=0.1, z=1.5))


class Tree:
    """Stands in for tf2_ros: knows what it was told."""

    class TransformException(Exception):
        """As of tf2_ros."""

    def __init__(self) -> None:
        self.frames: dict[tuple[str, str], Any] = {}
        self.asked = self.left = 0

    def Buffer(self) -> Tree:
        return self

    def TransformListener(self, buffer: Tree, node: Any) -> SimpleNamespace:
        return SimpleNamespace(unregister=self._leave)

    def _leave(self) -> None:
        self.left += 1

    def lookup_transform(self, target: str, source: str, time: Any) -> SimpleNamespace:
        self.asked += 1
        if (target, source) not in self.frames:
            raise self.TransformException(f'"{source}" does not exist\nin the tree')
        return SimpleNamespace(transform=self.frames[target, source])


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Tree:
    found = Tree()
    monkeypatch.setitem(sys.modules, 'tf2_ros', found)
    return found


@pytest.mark.parametrize('yaw', [0.0, 1.0, math.pi])
def test_height_and_pitch_whatever_way_the_camera_looks(tree: Tree, yaw: float) -> None:
    tree.frames['base', 'eye'] = optical(pitch=PITCH, yaw=yaw)
    found = TransformMountings(NODE).find('base', 'eye')
    assert found is not None
    assert found.height == 1.5
    assert found.pitch == pytest.approx(PITCH)


def test_what_tf_does_not_tell_yet_is_asked_again_and_said_once(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    times = iter((0.0, 0.2, 0.9, 1.1, 2.2))
    mountings = TransformMountings(NODE, lambda: next(times))
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            assert mountings.find('base', 'eye') is None
        assert tree.asked == 2
        tree.frames['base', 'eye'] = optical(pitch=0.0)
        found = mountings.find('base', 'eye')
        assert found == mountings.find('base', 'eye')
    assert found is not None and tree.asked == 3
    warning, told = caplog.messages
    assert '"eye" does not exist in the tree' in warning and '\n' not in warning
    assert told == 'eye is 1.50 m above base and looks 0.0 degrees down, says tf'
    mountings.close()
    assert tree.left == 1


def test_a_camera_that_leans_is_warned_of(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    tree.frames['base', 'eye'] = optical(pitch=0.0, roll=0.3)
    TransformMountings(NODE).find('base', 'eye')
    assert 'eye leans to a side by 17 degrees' in caplog.text


def test_a_camera_upside_down_is_warned_of(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    tree.frames['base', 'eye'] = optical(pitch=0.1, roll=math.pi)
    TransformMountings(NODE).find('base', 'eye')
    assert 'eye leans to a side by 180 degrees' in caplog.text


def test_a_frame_that_is_no_ground_places_nothing_until_it_is_mended(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    times = iter((0.0, 2.0, 4.0))
    tree.frames['roof', 'eye'] = optical(pitch=0.0)
    tree.frames['roof', 'eye'].translation.z = -0.3
    mountings = TransformMountings(NODE, lambda: next(times))
    assert mountings.find('roof', 'eye') is mountings.find('roof', 'eye') is None
    assert caplog.text.count('eye is not above roof (-0.30 m)') == 1
    tree.frames['roof', 'eye'].translation.z = 1.0
    found = mountings.find('roof', 'eye')
    assert found is not None and found.height == 1.0


def test_without_tf2_ros_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    with pytest.raises(MultishiftError, match=r'ground_frame.*tf2-ros-py, or set mount_height'):
        TransformMountings(NODE)


def test_a_height_that_is_given_goes_before_tf() -> None:
    given = CameraSettings('a', 'b', 'raw', mount_height=1.2, ground_frame='base')
    assert not given.asks_tf and given.mounting is not None
    asked = CameraSettings('a', 'b', 'raw', ground_frame='base')
    assert asked.asks_tf and asked.mounting is None

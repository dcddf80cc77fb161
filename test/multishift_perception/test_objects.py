# SPDX-License-Identifier: Apache-2.0
"""Geometry and tracking on the sample drive, whose true mask stands for the network's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from multishift_perception.classes import CITYSCAPES, NOVEL
from multishift_perception.ground_plane import Calibration, Mounting
from multishift_perception.objects import AnomalousObject, ObjectFinder
from multishift_perception.pipeline import FrameOutput
from multishift_perception.sample_drive import NOVEL_OBJECTS
from multishift_perception.sample_drive.drive import MOUNT_HEIGHT, SPEED, Drive
from multishift_perception.sample_drive.paint.geometry import Camera

AT = (0.5, 1.5, 2.5)


@pytest.fixture(scope='module')
def drive() -> Drive:
    return Drive(0)


def camera_at(drive: Drive, t: float) -> Camera:
    """Return where the front camera is, as the drive renders it."""
    inside, scene, s = drive.intrinsics('front'), drive._scene, SPEED * t
    x, _, z = scene.street.point(s, scene.lane(s)).tolist()
    drift = math.atan(scene.lane(s + 0.5) - scene.lane(s - 0.5))
    heading = scene.street.heading(s) - drift
    size = inside.width, inside.height
    return Camera(*size, inside.fx, inside.cx, inside.cy, x, MOUNT_HEIGHT, z, heading)


def novel_places(drive: Drive) -> list[tuple[float, float]]:
    """Return where novel objects stand: x and z, metres."""
    street = drive._scene.street
    items = [item for item in drive._scene.items if item.kind in NOVEL_OBJECTS[drive.split]]
    places = [street.point(item.s, item.u).tolist() for item in items]
    return [(x, z) for x, _, z in places]


def true_output(drive: Drive, t: float) -> FrameOutput:
    labels = drive.render('front', t).labels
    anomaly = np.where(labels == NOVEL, 255, 0).astype(np.uint8)
    return FrameOutput(labels, anomaly, anomaly.astype(np.float32))


def placed(drive: Drive, output: FrameOutput) -> list[AnomalousObject]:
    inside = drive.intrinsics('front')
    return ObjectFinder(CITYSCAPES).find(
        output,
        0.5,
        min_area=20,
        calibration=Calibration((inside.fx, inside.fy, inside.cx, inside.cy)),
        mounting=Mounting(MOUNT_HEIGHT),
    )


@pytest.fixture(scope='module')
def outputs(drive: Drive) -> list[FrameOutput]:
    return [true_output(drive, t) for t in AT]


def test_objects_are_where_they_stand(drive: Drive, outputs: list[FrameOutput]) -> None:
    """Within 10 % from 5 to 30 m, the pavement's, which is no level ground, among them."""
    checked = 0
    for t, output in zip(AT, outputs, strict=True):
        eye = camera_at(drive, t)
        for x, z in novel_places(drive):
            ahead = eye.depth_of(x, z)
            right = (x - eye.x) * eye.right[0] + (z - eye.z) * eye.right[1]
            distance, bearing = math.hypot(ahead, right), math.atan2(-right, ahead)
            if not (5 < distance < 30 and abs(right) < 0.8 * ahead):
                continue
            feet = [found.foot for found in placed(drive, output) if found.foot]
            foot = min(feet, key=lambda foot: abs(foot.bearing - bearing))
            assert foot.bearing == pytest.approx(bearing, abs=0.05)
            assert foot.distance == pytest.approx(distance, rel=0.1)
            checked += 1
    assert checked >= 4


def test_true_objects_stand_on_the_ground(drive: Drive, outputs: list[FrameOutput]) -> None:
    found = placed(drive, outputs[1])
    assert len(found) >= 3
    assert all(thing.on_ground > 0.9 for thing in found)


def test_without_calibration_or_mounting_there_is_no_foot(outputs: list[FrameOutput]) -> None:
    found = ObjectFinder(CITYSCAPES).find(outputs[1], 0.5, min_area=20)
    assert found and all(thing.foot is None for thing in found)


def test_a_number_stays_while_an_object_is_seen(drive: Drive) -> None:
    """In over 90 % of the frames, of those that are large enough not to come and go."""
    finder = ObjectFinder(CITYSCAPES)
    inside = drive.intrinsics('front')
    calibration = Calibration((inside.fx, inside.fy, inside.cx, inside.cy))
    numbers: dict[int, list[int]] = {}
    for t in np.arange(1.0, 2.6, 0.2):
        found = finder.find(
            true_output(drive, float(t)),
            0.5,
            min_area=60,
            calibration=calibration,
            mounting=Mounting(MOUNT_HEIGHT),
        )
        eye = camera_at(drive, float(t))
        for index, (x, z) in enumerate(novel_places(drive)):
            ahead = eye.depth_of(x, z)
            right = (x - eye.x) * eye.right[0] + (z - eye.z) * eye.right[1]
            near = [
                thing
                for thing in found
                if thing.foot
                and abs(thing.foot.bearing - math.atan2(-right, ahead)) < 0.05
                and thing.foot.distance == pytest.approx(math.hypot(ahead, right), rel=0.15)
            ]
            if near:
                numbers.setdefault(index, []).append(near[0].number)
    seen = [row for row in numbers.values() if len(row) >= 4]
    assert len(seen) >= 2
    steady = sum(max(map(row.count, row)) for row in seen) / sum(map(len, seen))
    assert steady > 0.9


def test_boxes_and_feet_are_of_the_output(outputs: list[FrameOutput], drive: Drive) -> None:
    """Regions are found at the engine's size, which here is half the camera's."""
    small = outputs[1]
    labels, anomaly = small.engine_labels, small.engine_anomaly
    height, width = labels.shape
    large = FrameOutput(labels, anomaly, small.score, (2 * height, 2 * width))
    inside = drive.intrinsics('front')
    twice = Calibration((2 * inside.fx, 2 * inside.fy, 2 * inside.cx + 0.5, 2 * inside.cy + 0.5))
    first = placed(drive, small)
    second = ObjectFinder(CITYSCAPES).find(
        large, 0.5, min_area=80, calibration=twice, mounting=Mounting(MOUNT_HEIGHT)
    )
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        assert two.box == pytest.approx([2 * value for value in one.box])
        assert one.foot and two.foot
        assert two.foot.distance == pytest.approx(one.foot.distance, rel=1e-6)

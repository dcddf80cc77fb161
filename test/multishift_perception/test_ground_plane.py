# SPDX-License-Identifier: Apache-2.0
"""Points of the ground, projected and found again."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from multishift_perception.ground_plane import Calibration, Mounting, find_on_ground

MATRIX = (500.0, 480.0, 319.5, 200.0)


def project(
    ahead: float, left: float, mounting: Mounting, distortion: tuple[float, ...] = ()
) -> tuple[float, float]:
    """Return the pixel of a point of the ground, by OpenCV."""
    fx, fy, cx, cy = MATRIX
    sine, cosine = math.sin(mounting.pitch), math.cos(mounting.pitch)
    down = mounting.height
    point = (-left, down * cosine - ahead * sine, down * sine + ahead * cosine)
    camera = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    none = np.zeros(3)
    pixels, _ = cv2.projectPoints(np.array([point]), none, none, camera, np.array(distortion))
    column, row = pixels.ravel().tolist()
    return column, row


@pytest.mark.parametrize('distortion', [(), (-0.2, 0.05, 0.001, -0.002, 0.0)])
@pytest.mark.parametrize('pitch', [-0.05, 0.0, 0.2])
@pytest.mark.parametrize(('ahead', 'left'), [(5.0, 0.0), (20.0, 4.0), (30.0, -7.0)])
def test_a_point_is_found_where_it_is(
    ahead: float, left: float, pitch: float, distortion: tuple[float, ...]
) -> None:
    mounting = Mounting(1.4, pitch)
    pixel = project(ahead, left, mounting, distortion)
    found = find_on_ground(pixel, Calibration(MATRIX, distortion), mounting)
    assert found is not None
    assert found.distance == pytest.approx(math.hypot(ahead, left), rel=1e-3)
    assert found.bearing == pytest.approx(math.atan2(left, ahead), abs=1e-3)
    right, down, forward = found.position
    assert right == pytest.approx(-left, rel=1e-3, abs=1e-3)
    assert math.hypot(down, forward) == pytest.approx(math.hypot(1.4, ahead), rel=1e-3)


def test_nothing_lies_above_the_horizon() -> None:
    calibration = Calibration(MATRIX)
    assert find_on_ground((300.0, 200.0), calibration, Mounting(1.4)) is None
    assert find_on_ground((300.0, 190.0), calibration, Mounting(1.4)) is None
    assert find_on_ground((300.0, 190.0), calibration, Mounting(1.4, 0.1)) is not None

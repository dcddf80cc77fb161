# SPDX-License-Identifier: Apache-2.0
"""The camera's projection, clipping and plane equations."""

import numpy as np
import pytest

from multishift_perception.sample_drive.paint.geometry import NEAR, Camera, clip_near


@pytest.fixture
def camera():
    return Camera(640, 360, 350.0, 319.5, 170.0, x=1.0, y=1.5, z=4.0, yaw=0.0)


def test_point_ahead_lands_on_the_principal_column(camera):
    seen = camera.to_camera(np.array([[1.0, 0.0, 14.0]], np.float32))
    np.testing.assert_allclose(seen, [[0.0, 1.5, 10.0]], atol=1e-5)
    np.testing.assert_allclose(camera.project(seen), [[319.5, 170 + 350 * 0.15]], atol=1e-3)


def test_positive_yaw_looks_left() -> None:
    camera = Camera(640, 360, 350.0, 319.5, 170.0, 0.0, 1.5, 0.0, yaw=np.pi / 2)
    seen = camera.to_camera(np.array([[-5.0, 1.5, 0.0]], np.float32))
    np.testing.assert_allclose(seen, [[0.0, 0.0, 5.0]], atol=1e-5)


def test_mirrored_camera_sees_a_point_as_far_below_the_ground(camera):
    point = np.array([[2.0, 3.0, 9.0]], np.float32)
    from_below = point * (1, -1, 1)
    mirrored = Camera(640, 360, 350.0, 319.5, 170.0, 1.0, 1.5, 4.0, 0.0, mirrored=True)
    np.testing.assert_allclose(mirrored.to_camera(point), camera.to_camera(from_below), atol=1e-5)


def test_homography_agrees_with_projection(camera):
    origin, across = np.array([-2, 0.0, 9], np.float32), np.array([1, 0, 2], np.float32)
    up = np.array([0, 3, 0], np.float32)
    corner = camera.homography(origin, across, up) @ (1.0, 1.0, 1.0)
    point = camera.project(camera.to_camera((origin + across + up)[None]))[0]
    np.testing.assert_allclose(corner[:2] / corner[2], point, rtol=1e-5)


def test_inverse_depth_of_a_wall_is_exact_on_its_points(camera):
    origin, normal = np.array([5, 0.0, 10], np.float32), np.array([-0.8, 0, -0.6], np.float32)
    p, q, r = camera.inverse_depth(origin, normal)
    along = np.array([-0.6, 0, 0.8], np.float32)
    for a, b in ((0.0, 0.0), (3.0, 1.0), (-4.0, 2.5)):
        seen = camera.to_camera(origin + a * along + np.array([0, b, 0], np.float32))
        column, row = camera.project(seen)
        assert 1 / (p + q * column + r * row) == pytest.approx(float(seen[2]), rel=1e-4)


def test_clipping_keeps_what_is_ahead() -> None:
    square = np.array([[0, 0, -1], [1, 0, -1], [1, 0, 3], [0, 0, 3]], np.float32)
    clipped = clip_near(square)
    assert len(clipped) == 4
    assert clipped[:, 2].min() == pytest.approx(NEAR)
    assert len(clip_near(square - (0, 0, 9))) == 0
    assert clip_near(square + (0, 0, 9)) is not square

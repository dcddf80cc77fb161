# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from multishift_perception.images.codec import decode
from multishift_perception.node.messages import (
    ReusedImage,
    jpeg_message,
    scaled_camera_info,
)

HEADER = Header(frame_id='optical')


def test_an_image_keeps_its_bytes_while_its_size_lasts():
    image = ReusedImage('rgb8')
    first = image.pixels((3, 4))
    assert first.shape == (3, 4, 3)
    assert image.pixels((3, 4)) is first
    assert image.pixels((4, 3)).shape == (4, 3, 3)


def test_jpeg_message():
    image = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    message = jpeg_message(HEADER, image)
    np.testing.assert_allclose(decode(message).astype(int), image, atol=3)
    stored = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    assert stored[0, 0, 0] < stored[0, 0, 2]


@pytest.fixture
def info():
    info = CameraInfo(height=480, width=640, distortion_model='plumb_bob')
    info.d = [0.1, 0.2, 0.3, 0.4, 0.5]
    info.k = [600.0, 1.0, 320.0, 0.0, 610.0, 240.0, 0.0, 0.0, 1.0]
    info.r = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [600.0, 0.0, 320.0, -60.0, 0.0, 610.0, 240.0, 5.0, 0.0, 0.0, 1.0, 0.0]
    info.roi.x_offset, info.roi.width = 64, 320
    info.roi.y_offset, info.roi.height = 48, 240
    return info


def test_camera_info_of_the_same_size_changes_only_its_header(info):
    same = scaled_camera_info(info, HEADER, (480, 640), (480, 640))
    assert same.header is HEADER
    info.header = HEADER
    assert same == info


def test_camera_info_scales_with_the_image(info):
    scaled = scaled_camera_info(info, HEADER, (480, 640), (240, 160))
    assert (scaled.height, scaled.width) == (240, 160)
    np.testing.assert_allclose(scaled.k, [150, 0.25, 80, 0, 305, 120, 0, 0, 1])
    np.testing.assert_allclose(scaled.p, [150, 0, 80, -15, 0, 305, 120, 2.5, 0, 0, 1, 0])
    np.testing.assert_array_equal(scaled.d, info.d)
    np.testing.assert_array_equal(scaled.r, info.r)
    roi = scaled.roi
    assert (roi.x_offset, roi.width, roi.y_offset, roi.height) == (16, 80, 24, 120)
    assert info.k[0] == 600.0

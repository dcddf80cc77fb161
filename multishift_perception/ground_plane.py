# SPDX-License-Identifier: Apache-2.0
"""Where a pixel of the ground lies, by the camera's calibration and how it is mounted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import NamedTuple

import cv2
import numpy as np


@dataclass(frozen=True)
class Mounting:
    """How a camera is mounted above level ground; it does not lean to a side.

    Attributes:
        height: of its optical centre above the ground, metres.
        pitch: how far its optical axis points below the horizon, radians.
    """

    height: float
    pitch: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """What an image's pixels see.

    Attributes:
        matrix: focal lengths and principal point (fx, fy, cx, cy), pixels.
        distortion: coefficients as OpenCV takes them, of the plumb-bob or the rational model;
            none of rectified images.
    """

    matrix: tuple[float, float, float, float]
    distortion: tuple[float, ...] = ()


class GroundPoint(NamedTuple):
    """A point of the ground.

    Attributes:
        position: right, down and forward in the camera's optical frame, metres.
        distance: from the point of the ground below the camera, metres.
        bearing: from straight ahead, positive to the left, radians.
    """

    position: tuple[float, float, float]
    distance: float
    bearing: float


def find_on_ground(
    pixel: Sequence[float], calibration: Calibration, mounting: Mounting
) -> GroundPoint | None:
    """Return where the ray of a pixel meets the ground; None where it does not.

    Args:
        pixel: column and row; whole numbers are centres of pixels.
        calibration: of the image.
        mounting: of the camera.
    """
    fx, fy, cx, cy = calibration.matrix
    x, y = (pixel[0] - cx) / fx, (pixel[1] - cy) / fy
    if any(calibration.distortion):
        point = np.array([[pixel]], np.float64)
        camera = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        undistorted = cv2.undistortPoints(point, camera, np.array(calibration.distortion))
        x, y = undistorted.ravel().tolist()
    sine, cosine = math.sin(mounting.pitch), math.cos(mounting.pitch)
    fall = y * cosine + sine
    if fall <= 1e-6:
        return None
    scale = mounting.height / fall
    ahead, right = scale * (cosine - y * sine), scale * x
    if ahead <= 0:
        return None
    position = (right, scale * y, scale)
    return GroundPoint(position, math.hypot(ahead, right), math.atan2(-right, ahead))

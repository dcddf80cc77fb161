# SPDX-License-Identifier: Apache-2.0
"""Where the camera stands: what a label map says of it, and where pixels lie in the street."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.placement import horizon_row
from multishift_training.augmentation.procedural.labels import GROUND, ROAD

Floats = NDArray[np.float32]

CAMERA_HEIGHT = 1.4  # metres above the ground
FARTHEST = 250.0  # metres


class View(NamedTuple):
    """A level camera in a straight street.

    Attributes:
        rows: of the image.
        columns: of the image.
        horizon: row, pixels.
        centre: column of the vanishing point, pixels.
        focal: length, pixels.
    """

    rows: int
    columns: int
    horizon: float
    centre: float
    focal: float

    def ground_depth(self) -> Floats:
        """Return the distance in metres of level ground in each row ``float32 [rows]``."""
        below = np.arange(self.rows, dtype=np.float32) + 0.5 - np.float32(self.horizon)
        least = CAMERA_HEIGHT * self.focal / FARTHEST
        return np.asarray(CAMERA_HEIGHT * self.focal / np.maximum(below, least), np.float32)

    def lateral(self) -> Floats:
        """Return metres to the right at one metre's distance, by column ``float32 [columns]``."""
        columns = np.arange(self.columns, dtype=np.float32) + 0.5
        return ((columns - np.float32(self.centre)) / np.float32(self.focal)).astype(np.float32)


def look(labels: Bytes, rng: np.random.Generator) -> View:
    """Return a view that fits a label map ``uint8 [H,W]``: roads end at the horizon."""
    rows, columns = labels.shape
    horizon = horizon_row(labels == ROAD)
    centre = columns * float(rng.uniform(0.42, 0.58))
    return View(rows, columns, horizon, centre, columns * float(rng.uniform(0.8, 1.1)))


def is_ground(labels: Bytes) -> Bytes:
    """Return 255 on ground, 0 elsewhere, ``uint8 [H,W]``."""
    table = np.zeros(256, np.uint8)
    table[list(GROUND)] = 255
    return np.asarray(cv2.LUT(labels, table), np.uint8)


def feet(ground: Bytes, plants: Bytes | None = None) -> NDArray[np.int16]:
    """Return the row where what a pixel shows stands on the ground, ``int16 [H,W]``.

    That is the nearest ground below it in its column; where there is none, the last row.

    Args:
        ground: not 0 on ground, ``uint8 [H,W]``.
        plants: 1 on plants, ``uint8 [H,W]``. A crown hangs over more than one column: theirs is
            the mean of what they have around, or light and haze would part them in bands.
    """
    rows = ground.shape[0]
    index = np.arange(rows, dtype=np.int16)[:, None]
    own = np.where(ground > 0, index, np.int16(rows - 1))
    nearest = np.minimum.accumulate(own[::-1], axis=0)[::-1]
    if plants is not None and plants.any():
        side = ground.shape[1] // 16 | 1
        weight = cv2.blur(plants.astype(np.float32), (side, side))
        rows_around = cv2.blur(nearest * plants.astype(np.float32), (side, side))
        mean = np.rint(rows_around / np.maximum(weight, np.float32(1e-6))).astype(np.int16)
        nearest = np.where(plants > 0, mean, nearest)
    return np.asarray(nearest, np.int16)

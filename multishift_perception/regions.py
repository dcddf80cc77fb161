# SPDX-License-Identifier: Apache-2.0
"""Anomalies as regions of an image: where each is, how large, and how sure."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.pipeline import score_unit


class Region(NamedTuple):
    """A connected part of an anomaly mask.

    Attributes:
        box: left, top, width and height in pixels.
        area: pixels.
        center: column and row of its centre of mass, in pixels.
        mean_score: of its pixels, 0..1 on the calibrated scale.
        max_score: likewise.
    """

    box: tuple[int, int, int, int]
    area: int
    center: tuple[float, float]
    mean_score: float
    max_score: float


def find_regions(mask: Bytes, anomaly: Bytes) -> list[Region]:
    """Return the regions of an anomaly mask (8 neighbours), the largest first.

    Args:
        mask: ``uint8 [h,w]``, not zero where the frame is anomalous; see `anomaly_mask`.
        anomaly: ``uint8 [h,w]``, as in ``FrameOutput``.
    """
    count, numbers, stats, centers = cv2.connectedComponentsWithStats(mask, connectivity=8)
    regions = []
    for number in range(1, count):  # region 0 is the background
        left, top, width, height, area = stats[number].tolist()
        part = slice(top, top + height), slice(left, left + width)
        scores = score_unit(np.ascontiguousarray(anomaly[part]))[numbers[part] == number]
        column, row = centers[number].tolist()
        regions.append(
            Region(
                (left, top, width, height),
                area,
                (column, row),
                float(scores.mean(dtype=np.float64)),
                float(scores.max()),
            )
        )
    return sorted(regions, key=lambda region: -region.area)

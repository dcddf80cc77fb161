# SPDX-License-Identifier: Apache-2.0
"""Anomalies as regions of an image: where each is, how large, and how sure."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.pipeline import score_unit

_MOST_OF_16_BITS = 65_535


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


def find_regions(mask: Bytes, anomaly: Bytes, most: int | None = None) -> list[Region]:
    """Return the regions of an anomaly mask (8 neighbours), the largest first.

    Args:
        mask: ``uint8 [h,w]``, not zero where the frame is anomalous; see `anomaly_mask`.
        anomaly: ``uint8 [h,w]``, as in ``FrameOutput``.
        most: how many, at most; None for all.
    """
    if not mask.any():
        return []
    # Regions of 8 neighbours are a quarter of the pixels at most; short numbers are faster.
    numbering = cv2.CV_16U if mask.size < 4 * _MOST_OF_16_BITS else cv2.CV_32S
    count, numbers, stats, centers = cv2.connectedComponentsWithStats(
        mask, connectivity=8, ltype=numbering
    )
    pixels = np.flatnonzero(mask != 0)  # of truth values a tenth of the time
    owners = numbers.ravel()[pixels].astype(np.intp)
    scores = score_unit(anomaly.ravel()[pixels]).ravel()
    sums = np.bincount(owners, scores, minlength=count)
    highest = np.zeros(count, np.float32)
    np.maximum.at(highest, owners, scores)
    # Region 0 is the background.
    by_size = 1 + np.argsort(-stats[1:count, cv2.CC_STAT_AREA], kind='stable')
    regions = []
    for number in by_size[:most].tolist():
        left, top, width, height, area = stats[number].tolist()
        column, row = centers[number].tolist()
        regions.append(
            Region(
                (left, top, width, height),
                area,
                (column, row),
                float(sums[number] / area),
                float(highest[number]),
            )
        )
    return regions

# SPDX-License-Identifier: Apache-2.0
"""Anomalies as objects in the way: numbered from frame to frame, and placed on the ground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from multishift_perception.classes import SemanticClass
from multishift_perception.ground import ground_table, on_ground
from multishift_perception.ground_plane import (
    Calibration,
    GroundPoint,
    Mounting,
    find_on_ground,
)
from multishift_perception.pipeline import FrameOutput, engine_mask
from multishift_perception.regions import find_regions
from multishift_perception.tracking import Tracker

# Of a frame, the largest; what is in pieces tells no planner anything.
_MOST = 32


class AnomalousObject(NamedTuple):
    """An anomaly that has been seen often enough.

    Attributes:
        number: the same from frame to frame, as far as its boxes overlap.
        box: left, top, width and height in pixels of the output.
        mean_score: of its pixels, 0..1 on the calibrated scale.
        max_score: likewise.
        on_ground: share of its pixels that lies or stands on ground, 0..1.
        foot: where it stands; None without calibration and mounting, or above the horizon.
    """

    number: int
    box: tuple[float, float, float, float]
    mean_score: float
    max_score: float
    on_ground: float
    foot: GroundPoint | None


class ObjectFinder:
    """Finds the objects of one camera's frames, in their order."""

    def __init__(self, classes: Sequence[SemanticClass]) -> None:
        """Take the engine's classes, in order of their labels."""
        self._ground = ground_table(classes)
        self._tracker = Tracker()

    def find(
        self,
        output: FrameOutput,
        threshold: float,
        *,
        min_area: int = 0,
        min_hits: int = 1,
        calibration: Calibration | None = None,
        mounting: Mounting | None = None,
    ) -> list[AnomalousObject]:
        """Return the objects of the next frame, the largest first.

        Args:
            output: what the engine said of the frame.
            threshold: calibrated score from which a pixel is anomalous, 0..1.
            min_area: pixels of the output that an anomalous region has at least.
            min_hits: frames that an object has been seen in at least.
            calibration: of an image of the output's size.
            mounting: of the camera.
        """
        labels, anomaly = output.engine_labels, output.engine_anomaly
        y, x = (out / size for out, size in zip(output.size, labels.shape, strict=True))
        mask = engine_mask(output, threshold, min_area)
        regions = find_regions(mask, anomaly, _MOST)
        numbers = self._tracker.follow([region.box for region in regions], min_hits)
        if not any(numbers):
            return []
        standing = on_ground(mask, labels, self._ground)
        found = []
        for region, number in zip(regions, numbers, strict=True):
            if number is None:
                continue
            left, top, width, height = region.box
            part = slice(top, top + height), slice(left, left + width)
            foot = None
            if calibration is not None and mounting is not None:
                (lowest,) = mask[top + height - 1, left : left + width].nonzero()
                # Whole numbers are centres of pixels, which are as large as `x` and `y` say.
                column = left + (int(lowest[0]) + int(lowest[-1]) + 1) / 2
                pixel = (column * x - 0.5, (top + height) * y - 0.5)
                foot = find_on_ground(pixel, calibration, mounting)
            found.append(
                AnomalousObject(
                    number,
                    (left * x, top * y, width * x, height * y),
                    region.mean_score,
                    region.max_score,
                    # Of what else reaches into its box, the little that there may be counts, too.
                    min(1.0, np.count_nonzero(standing[part]) / region.area),
                    foot,
                )
            )
        return found

# SPDX-License-Identifier: Apache-2.0
"""Chooses which frames a report shows, while the frames stream by, and draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL, SemanticClass, color_table
from multishift_perception.metrics import OperatingPoint
from multishift_perception.overlay import ALPHA, draw_overlay, draw_truth

_MAX_WIDTH = 640
_QUALITY = 88
# Neighbouring frames look alike: of those closer than this, in seconds, only one is shown.
_APART = 2.0


@dataclass(frozen=True)
class Picture:
    """A row of the gallery: the frame, what the engine saw, the ground truth; all JPEG bytes.

    Attributes:
        truth: None where there is no ground truth.
        found: share of the novel pixels that the mask covers; None where there is none.
        false_alarms: share of the known pixels that the mask covers; None without ground truth.
    """

    camera: str
    condition: str
    time: float
    frame: bytes
    overlay: bytes
    truth: bytes | None
    found: float | None
    false_alarms: float | None


class Gallery:
    """Keeps the frames with the largest novel objects of every camera and condition.

    Without ground truth the largest reported anomalies decide. Memory holds JPEGs of the
    candidates only.
    """

    def __init__(self, classes: Sequence[SemanticClass], *, limit: int = 12) -> None:
        """Start empty.

        Args:
            classes: known classes, for their colours.
            limit: pictures at most, or one for every camera and condition if those are more.
        """
        self._colors = color_table(classes)
        self._limit = limit
        self._kept: dict[tuple[str, str], list[tuple[float, Picture]]] = {}

    def offer(
        self,
        *,
        camera: str,
        condition: str,
        time: float,
        image: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        truth: NDArray[np.uint8] | None,
    ) -> None:
        """Consider a frame; it is drawn only if it is kept. Shapes as in ``JudgedFrame``."""
        worth = float(np.mean(mask != 0 if truth is None else truth == NOVEL))
        kept = self._kept.setdefault((camera, condition), [])
        near = [entry for entry in kept if abs(entry[1].time - time) < _APART]
        full = len(kept) - len(near) >= self._limit
        if any(entry[0] >= worth for entry in near) or (full and worth <= kept[-1][0]):
            return
        point = OperatingPoint()
        if truth is not None:
            point.update(mask, truth)
        rates = point.result()
        picture = Picture(
            camera=camera,
            condition=condition,
            time=time,
            frame=jpeg(image),
            overlay=jpeg(draw_overlay(image, labels, mask, self._colors, ALPHA)),
            truth=None if truth is None else jpeg(draw_truth(image, truth, self._colors, ALPHA)),
            found=rates.tpr,
            false_alarms=rates.fpr,
        )
        rest = [entry for entry in kept if entry not in near] + [(worth, picture)]
        rest.sort(key=lambda entry: -entry[0])
        self._kept[camera, condition] = rest[: self._limit]

    def pictures(self) -> tuple[Picture, ...]:
        """Return the chosen pictures in order of time, the same number per group if possible."""
        chosen: list[Picture] = []
        for rank in range(self._limit):
            row = [kept[rank][1] for kept in self._kept.values() if len(kept) > rank]
            if chosen and len(chosen) + len(row) > self._limit:
                break
            chosen += row
        return tuple(sorted(chosen, key=lambda picture: (picture.time, picture.camera)))


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """Return an RGB image ``uint8 [h,w,3]`` as JPEG, made smaller where it is wide."""
    height, width = image.shape[:2]
    if width > _MAX_WIDTH:
        size = (_MAX_WIDTH, max(1, round(height * _MAX_WIDTH / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()

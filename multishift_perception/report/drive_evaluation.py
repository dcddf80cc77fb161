# SPDX-License-Identifier: Apache-2.0
"""What an engine made of a drive: its outputs against ground truth, by camera and condition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multishift_perception.metrics import (
    AnomalyMetrics,
    AnomalyResult,
    Grouped,
    OperatingPoint,
    OperatingResult,
    SegmentationMetrics,
    SegmentationResult,
)
from multishift_perception.report.gallery import Gallery, Picture

_Key = tuple[str, str]  # camera, condition


@dataclass(frozen=True)
class JudgedFrame:
    """A frame with its outputs, all of the same height and width.

    Attributes:
        camera: name of the camera.
        condition: light and weather; empty where unknown.
        time: seconds since the start of the drive.
        image: RGB ``uint8 [h,w,3]``.
        labels: predicted class, ``uint8 [h,w]``.
        mask: not zero where an anomaly is reported, ``uint8 [h,w]``.
        score: larger is more anomalous, ``uint8`` or float ``[h,w]``.
        truth: labels ``uint8 [h,w]``: class, 254 novel, 255 void; None without ground truth.
    """

    camera: str
    condition: str
    time: float
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    score: NDArray[np.uint8] | NDArray[np.float32]
    truth: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Scores:
    """Metrics over a group of frames; undefined ones are None.

    Attributes:
        name: name of the condition or camera; ``all`` for the whole drive.
        frames: frames in the group.
        frames_with_truth: those that the metrics count.
    """

    name: str
    frames: int
    frames_with_truth: int
    segmentation: SegmentationResult
    anomaly: AnomalyResult
    operating: OperatingResult


class Evaluation:
    """Collects metrics and the pictures of a report, frame by frame, in bounded memory."""

    def __init__(self, num_classes: int, gallery: Gallery) -> None:
        """Start empty; the gallery chooses which frames are shown."""
        self._groups: Grouped[_Key, _Counts] = Grouped(lambda: _Counts(num_classes))
        self._gallery = gallery

    def add(self, frame: JudgedFrame) -> None:
        """Count a frame.

        Raises:
            ValueError: outputs and ground truth differ in shape, or a label is out of range.
        """
        self._groups[frame.camera, frame.condition].add(frame)
        self._gallery.offer(
            camera=frame.camera,
            condition=frame.condition,
            time=frame.time,
            image=frame.image,
            labels=frame.labels,
            mask=frame.mask,
            truth=frame.truth,
        )

    def overall(self) -> Scores:
        """Return the metrics over all frames."""
        return self._groups.merged().scores('all')

    def by_condition(self) -> tuple[Scores, ...]:
        """Return the metrics per known condition, in the order of their first frames."""
        return tuple(scores for scores in self._by(1) if scores.name)

    def by_camera(self) -> tuple[Scores, ...]:
        """Return the metrics per camera, in the order of their first frames."""
        return self._by(0)

    def pictures(self) -> tuple[Picture, ...]:
        """Return the pictures for the report."""
        return self._gallery.pictures()

    def _by(self, part: int) -> tuple[Scores, ...]:
        names: dict[str, list[_Key]] = {}
        for key in self._groups.groups:
            names.setdefault(key[part], []).append(key)
        return tuple(self._groups.merged(keys).scores(name) for name, keys in names.items())


class _Counts:
    """All metrics of one group."""

    def __init__(self, num_classes: int) -> None:
        self.frames = 0
        self.frames_with_truth = 0
        self.segmentation = SegmentationMetrics(num_classes)
        self.anomaly = AnomalyMetrics()
        self.operating = OperatingPoint()

    def add(self, frame: JudgedFrame) -> None:
        self.frames += 1
        if frame.truth is None:
            return
        self.frames_with_truth += 1
        self.segmentation.update(frame.labels, frame.truth)
        self.anomaly.update(frame.score, frame.truth)
        self.operating.update(frame.mask, frame.truth)

    def merge(self, other: _Counts) -> None:
        self.frames += other.frames
        self.frames_with_truth += other.frames_with_truth
        self.segmentation.merge(other.segmentation)
        self.anomaly.merge(other.anomaly)
        self.operating.merge(other.operating)

    def scores(self, name: str) -> Scores:
        return Scores(
            name,
            self.frames,
            self.frames_with_truth,
            self.segmentation.result(),
            self.anomaly.result(),
            self.operating.result(),
        )

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
from multishift_perception.report.frame_table import FrameRecord, FrameTable, count_pixels
from multishift_perception.report.gallery import Gallery, Pictures
from multishift_perception.report.pictures import Pixels

_Key = tuple[str, str]  # camera, condition


@dataclass(frozen=True)
class JudgedFrame:
    """A frame with its outputs, all of the same height and width.

    Attributes:
        camera: name of the camera.
        condition: light and weather; empty where unknown.
        time: seconds since the start of the drive.
        stamp_ns: stamp of the frame's header.
        latency_ms: from the frame to its mask.
        image: RGB ``uint8 [h,w,3]``.
        labels: predicted class, ``uint8 [h,w]``.
        mask: not zero where an anomaly is reported, ``uint8 [h,w]``.
        score: larger is more anomalous, ``uint8`` or float ``[h,w]``.
        anomaly: calibrated uncertainty, ``uint8 [h,w]``; 128 is the operating point.
        truth: labels ``uint8 [h,w]``: class, 254 novel, 255 void; None without ground truth.
        shift: how far from the training's domain the engine says that it is; None where it does
            not.
    """

    camera: str
    condition: str
    time: float
    stamp_ns: int
    latency_ms: float
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    score: NDArray[np.uint8] | NDArray[np.float32]
    anomaly: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None
    shift: float | None = None


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
    """Collects metrics and the pictures of a report, frame by frame, in bounded memory.

    Attributes:
        frames: what became of each frame.
    """

    def __init__(self, num_classes: int, gallery: Gallery) -> None:
        """Start empty; the gallery chooses which frames are shown."""
        self._num_classes = num_classes
        self._groups: Grouped[_Key, _Counts] = Grouped(lambda: _Counts(num_classes))
        self._gallery = gallery
        self.frames = FrameTable()

    def add(self, frame: JudgedFrame) -> None:
        """Count a frame.

        Raises:
            ValueError: outputs and ground truth differ in shape, or a label is out of range.
        """
        segmentation = SegmentationMetrics(self._num_classes)
        if frame.truth is not None:
            segmentation.update(frame.labels, frame.truth)
        self._groups[frame.camera, frame.condition].add(frame, segmentation)
        record = _record(frame, segmentation)
        self.frames.add(record)
        self._gallery.offer(
            record, Pixels(frame.image, frame.labels, frame.mask, frame.anomaly, frame.truth)
        )

    def drop(self, *, camera: str, condition: str, time: float, stamp_ns: int, cause: str) -> None:
        """Note a frame without outputs; the arguments are as in ``FrameRecord``."""
        self.frames.add(FrameRecord(stamp_ns, time, camera, condition, dropped=cause))

    def overall(self) -> Scores:
        """Return the metrics over all frames."""
        return self._groups.merged().scores('all')

    def by_condition(self) -> tuple[Scores, ...]:
        """Return the metrics per known condition, in the order of their first frames."""
        return tuple(scores for scores in self._by(1) if scores.name)

    def by_camera(self) -> tuple[Scores, ...]:
        """Return the metrics per camera, in the order of their first frames."""
        return self._by(0)

    def pictures(self) -> Pictures:
        """Return the pictures for the report."""
        return self._gallery.pictures()

    def _by(self, part: int) -> tuple[Scores, ...]:
        names: dict[str, list[_Key]] = {}
        for key in self._groups.groups:
            names.setdefault(key[part], []).append(key)
        return tuple(self._groups.merged(keys).scores(name) for name, keys in names.items())


def _record(frame: JudgedFrame, segmentation: SegmentationMetrics) -> FrameRecord:
    return FrameRecord(
        stamp_ns=frame.stamp_ns,
        time=frame.time,
        camera=frame.camera,
        condition=frame.condition,
        anomalous=np.count_nonzero(frame.mask) / frame.mask.size,
        latency_ms=frame.latency_ms,
        shift=frame.shift,
        miou=segmentation.result().miou,
        truth=None if frame.truth is None else count_pixels(frame.mask, frame.truth),
    )


class _Counts:
    """All metrics of one group."""

    def __init__(self, num_classes: int) -> None:
        self.frames = 0
        self.frames_with_truth = 0
        self.segmentation = SegmentationMetrics(num_classes)
        self.anomaly = AnomalyMetrics()
        self.operating = OperatingPoint()

    def add(self, frame: JudgedFrame, segmentation: SegmentationMetrics) -> None:
        self.frames += 1
        if frame.truth is None:
            return
        self.frames_with_truth += 1
        self.segmentation.merge(segmentation)
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

# SPDX-License-Identifier: Apache-2.0
"""What an engine made of a drive: its outputs against ground truth, by camera and condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multishift_perception.metrics import (
    AnomalyResult,
    Grouped,
    OperatingPoint,
    OperatingResult,
    SegmentationMetrics,
    SegmentationResult,
)
from multishift_perception.metrics.bravo import BravoResult
from multishift_perception.metrics.objects import Ground, ObjectResult
from multishift_perception.metrics.streaming import StreamingResult
from multishift_perception.metrics.temporal import TemporalResult
from multishift_perception.pipeline import Pixels
from multishift_perception.report.drive_counts import CameraHistory, DriveCounts
from multishift_perception.report.frame_table import FrameRecord, FrameTable, TruthCounts
from multishift_perception.report.gallery import Gallery, Pictures

Key = tuple[str, str]  # camera, condition


@dataclass(frozen=True)
class JudgedFrame:
    """A frame with its outputs.

    Attributes:
        camera: name of the camera.
        condition: light and weather; empty where unknown.
        time: seconds since the start of the drive.
        stamp_ns: stamp of the frame's header.
        latency_ms: from the frame to its mask.
        pixels: the frame, and what was said of it.
        score: larger is more anomalous, ``uint8`` or float ``[h,w]``; None without ground truth,
            which alone it is compared with.
        shift: how far from the training's domain the engine says that it is; None where it does
            not.
    """

    camera: str
    condition: str
    time: float
    stamp_ns: int
    latency_ms: float
    pixels: Pixels
    score: NDArray[np.uint8] | NDArray[np.float32] | None
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
    bravo: BravoResult
    temporal: TemporalResult
    streaming: StreamingResult
    objects: ObjectResult


class DriveGroups(Grouped[Key, DriveCounts]):
    """What is counted of a drive, or of many, by camera and condition."""

    def __init__(self, num_classes: int) -> None:
        """Start empty."""
        super().__init__(lambda: DriveCounts(num_classes))

    def overall(self) -> Scores:
        """Return the metrics over all frames."""
        return scores('all', self.merged())

    def by_condition(self) -> tuple[Scores, ...]:
        """Return the metrics per known condition, in the order of their first frames."""
        return self._by(1)

    def by_camera(self) -> tuple[Scores, ...]:
        """Return the metrics per camera, in the order of their first frames."""
        return self._by(0)

    def _by(self, part: int) -> tuple[Scores, ...]:
        """Return the metrics by a part of the key; frames that have no name there are left out."""
        names: dict[str, list[Key]] = {}
        for key in self.groups:
            if key[part]:
                names.setdefault(key[part], []).append(key)
        return tuple(scores(name, self.merged(keys)) for name, keys in names.items())


class Evaluation:
    """Collects metrics and the pictures of a report, frame by frame, in bounded memory.

    Attributes:
        counts: what is counted so far.
        frames: what became of each frame.
    """

    def __init__(
        self, num_classes: int, gallery: Gallery, grounds: Mapping[str, Ground] | None = None
    ) -> None:
        """Start empty.

        Args:
            num_classes: known classes.
            gallery: chooses which frames are shown.
            grounds: how cameras stand over flat ground; those that are not named tell no
                distances.
        """
        self.counts = DriveGroups(num_classes)
        self._gallery = gallery
        self.frames = FrameTable()
        self._grounds = grounds or {}
        self._histories: dict[str, CameraHistory] = {}

    def add(self, frame: JudgedFrame) -> None:
        """Count a frame.

        Raises:
            ValueError: outputs and ground truth differ in shape, or a label is out of range.
        """
        counts = self.counts[frame.camera, frame.condition]
        seen = frame.pixels
        own = counts.add(seen.labels, seen.mask, frame.score, seen.truth, seen.anomaly)
        if frame.camera not in self._histories:
            self._histories[frame.camera] = CameraHistory(self._grounds.get(frame.camera))
        self._histories[frame.camera].add(
            counts,
            time=round(frame.time * 1e9),
            labels=seen.labels,
            mask=seen.mask,
            truth=seen.truth,
            latency_ms=frame.latency_ms,
        )
        record = _record(frame, *own)
        self.frames.add(record)
        self._gallery.offer(record, seen)

    def pictures(self) -> Pictures:
        """Return the pictures for the report."""
        return self._gallery.pictures()


def _record(
    frame: JudgedFrame, segmentation: SegmentationMetrics, operating: OperatingPoint
) -> FrameRecord:
    return FrameRecord(
        stamp_ns=frame.stamp_ns,
        time=frame.time,
        camera=frame.camera,
        condition=frame.condition,
        anomalous=np.count_nonzero(frame.pixels.mask) / frame.pixels.mask.size,
        latency_ms=frame.latency_ms,
        shift=frame.shift,
        miou=segmentation.result().miou,
        truth=None if frame.pixels.truth is None else TruthCounts.of(operating),
    )


def scores(name: str, counts: DriveCounts) -> Scores:
    """Return the metrics of a group."""
    segmentation = counts.segmentation.result()
    return Scores(
        name=name,
        frames=counts.frames.all,
        frames_with_truth=counts.frames.with_truth,
        segmentation=segmentation,
        anomaly=counts.anomaly.result(),
        operating=counts.operating.result(),
        bravo=counts.bravo.result(segmentation.miou),
        temporal=counts.temporal.result(),
        streaming=counts.streaming.result(),
        objects=counts.objects.result(),
    )

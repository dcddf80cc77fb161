# SPDX-License-Identifier: Apache-2.0
"""All that is counted of a group of a drive's frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_perception.classes import NOVEL
from multishift_perception.metrics import AnomalyMetrics, OperatingPoint, SegmentationMetrics
from multishift_perception.metrics import state as metric_state
from multishift_perception.metrics.bravo import BravoMetrics
from multishift_perception.metrics.components import Sizes, regions_of
from multishift_perception.metrics.counts import Counts
from multishift_perception.metrics.objects import Ground, ObjectLog, ObjectMetrics
from multishift_perception.metrics.streaming import Stream, StreamingMetrics
from multishift_perception.metrics.temporal import Steadiness, TemporalCounts
from multishift_perception.pipeline import score_unit

# Regions of fewer pixels are neither objects nor false alarms: the obstacle track's least sizes,
# for pictures of 0.2 megapixels and more.
SIZES = Sizes(truth=10, prediction=50)
# Of the scores of one group. A bag has a group for each camera and condition, and there may be
# thousands of bags: a state has some 0.5 MB, and to merge groups takes a tenth of the time.
_BINS = 1 << 16
# Pixels of a group that wait to be put into bins.
_PENDING = 1 << 20
_LEVELS = 65535
# Calibrated score to confidence: the less anomalous, the surer.
_CONFIDENCE = np.rint(
    (1 - score_unit(np.arange(256, dtype=np.uint8)).reshape(-1).astype(np.float64)) * _LEVELS
).astype(np.uint16)


@dataclass
class FrameCounts(Counts):
    """Frames of a group, and those of them with ground truth."""

    all: int = 0
    with_truth: int = 0


class DriveCounts:
    """All metrics of one group."""

    def __init__(self, num_classes: int) -> None:
        """Start empty."""
        self.frames = FrameCounts()
        self.segmentation = SegmentationMetrics(num_classes)
        self.anomaly = AnomalyMetrics(_BINS, _PENDING)
        self.operating = OperatingPoint()
        self.bravo = BravoMetrics()
        self.temporal = TemporalCounts()
        self.streaming = StreamingMetrics(num_classes)
        self.objects = ObjectMetrics()

    def add(
        self,
        labels: Bytes,
        mask: Bytes,
        score: NDArray[np.uint8] | NDArray[np.float32] | None,
        truth: Bytes | None,
        anomaly: Bytes,
    ) -> tuple[SegmentationMetrics, OperatingPoint]:
        """Count a frame by itself; see ``Pixels``, and ``JudgedFrame`` for the score.

        Returns:
            The frame's own; of no pixel where there is no ground truth.

        Raises:
            ValueError: outputs and ground truth differ in shape, or a label is out of range.
        """
        segmentation = SegmentationMetrics(self.segmentation.num_classes)
        operating = OperatingPoint()
        self.frames.all += 1
        if truth is None or score is None:
            return segmentation, operating
        segmentation.update(labels, truth)
        operating.update(mask, truth)
        self.frames.with_truth += 1
        self.segmentation.merge(segmentation)
        self.anomaly.update(score, truth)
        self.operating.merge(operating)
        self.bravo.update(labels, anomaly, truth, scale=_CONFIDENCE)
        return segmentation, operating

    def merge(self, *others: Self) -> None:
        """Add what other objects have counted."""
        for name, part in vars(self).items():
            part.merge(*(getattr(other, name) for other in others))

    def to_bytes(self) -> bytes:
        """Return what has been counted."""
        # Pixels that wait to be put into bins are: they would be most of it.
        anomaly = AnomalyMetrics(_BINS)
        anomaly.merge(self.anomaly)
        parts = {**vars(self), 'anomaly': anomaly}
        arrays = {name: metric_state.to_array(part.to_bytes()) for name, part in parts.items()}
        return metric_state.pack('DriveCounts', arrays, compressed=False)

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the counts that ``to_bytes`` described.

        Raises:
            ValueError: it describes none.
        """
        arrays, counts = metric_state.unpack('DriveCounts', state), cls(0)
        for name, part in vars(counts).items():
            options = {'max_bins': _BINS} if name == 'anomaly' else {}
            setattr(counts, name, type(part).from_bytes(arrays[name].tobytes(), **options))
        return counts


class CameraHistory:
    """What earlier frames of a camera have to do with the next one."""

    def __init__(self, ground: Ground | None = None) -> None:
        """Start before the first frame."""
        self._ground = ground
        self._begin()
        self._last: int | None = None

    def _begin(self) -> None:
        self._steadiness, self._stream = Steadiness(), Stream()
        self._log = ObjectLog(self._ground)

    def add(
        self,
        counts: DriveCounts,
        *,
        time: int,
        labels: Bytes,
        mask: Bytes,
        truth: Bytes | None,
        latency_ms: float,
    ) -> None:
        """Count a frame by those before it; a time before theirs begins anew.

        Args:
            counts: of the frame's group.
            time: of the frame, in nanoseconds.
            labels: see ``Pixels``, as for the others.
            mask: likewise.
            truth: likewise.
            latency_ms: likewise.
        """
        if self._last is not None and time < self._last:
            self._begin()
        self._last = time
        regions = regions_of(mask != 0, SIZES.prediction)
        objects = None if truth is None else regions_of(truth == NOVEL, SIZES.truth)
        self._steadiness.add(counts.temporal, time, labels, mask, truth, regions, objects)
        if truth is not None and objects is not None:
            self._log.add(counts.objects, time, mask, truth, regions, objects)
        latency = round(latency_ms * 1e6)
        self._stream.add(counts.streaming, time, latency, labels, mask, truth)

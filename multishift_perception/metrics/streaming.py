# SPDX-License-Identifier: Apache-2.0
"""How right outputs are when they arrive: each truth against the newest output there is by then.

Li, Wang and Ramanan, "Towards Streaming Perception", ECCV 2020, section 3.1, for one frame at a
time: who computes takes the newest frame once it is free, and leaves those before it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from multishift_perception.arrays import Bytes
from multishift_perception.metrics import state as metric_state
from multishift_perception.metrics.checks import ratio
from multishift_perception.metrics.counts import Counts
from multishift_perception.metrics.operating_point import OperatingPoint, OperatingResult
from multishift_perception.metrics.segmentation import SegmentationMetrics


@dataclass(frozen=True)
class StreamingResult:
    """Outputs against the truth of the moment at which they are the newest; None without any.

    Attributes:
        miou: of the labels.
        operating: of the anomaly mask.
        age_ms: mean time since the stamp of the frame that the newest output is of.
        frames: with ground truth, that an output was there for.
        too_early: with ground truth, before the first output; not judged.
        skipped: frames that were replaced by a newer one before their turn came.
    """

    miou: float | None
    operating: OperatingResult
    age_ms: float | None
    frames: int
    too_early: int
    skipped: int


@dataclass
class _Frames(Counts):
    judged: int = 0
    too_early: int = 0
    skipped: int = 0
    age: int = 0  # nanoseconds of all judged


class StreamingMetrics:
    """What streams count together."""

    def __init__(self, num_classes: int) -> None:
        """Start empty."""
        self.segmentation = SegmentationMetrics(num_classes)
        self.operating = OperatingPoint()
        self.frames = _Frames()

    def merge(self, *others: Self) -> None:
        """Add what other objects have counted."""
        for name, part in vars(self).items():
            part.merge(*(getattr(other, name) for other in others))

    def to_bytes(self) -> bytes:
        """Return what has been counted."""
        parts = vars(self).items()
        arrays = {name: metric_state.to_array(part.to_bytes()) for name, part in parts}
        return metric_state.pack('StreamingMetrics', arrays, compressed=False)

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the metrics that ``to_bytes`` described.

        Raises:
            ValueError: it describes no streaming metrics.
        """
        arrays, metrics = metric_state.unpack('StreamingMetrics', state), cls(0)
        for name, part in vars(metrics).items():
            setattr(metrics, name, type(part).from_bytes(arrays[name].tobytes()))
        return metrics

    def result(self) -> StreamingResult:
        """Return the metrics of all frames so far."""
        age = ratio(self.frames.age, self.frames.judged)
        return StreamingResult(
            miou=self.segmentation.result().miou,
            operating=self.operating.result(),
            age_ms=None if age is None else age / 1e6,
            frames=self.frames.judged,
            too_early=self.frames.too_early,
            skipped=self.frames.skipped,
        )


class _Output(NamedTuple):
    time: int
    latency: int
    labels: Bytes
    mask: Bytes


class Stream:
    """One camera whose frames are computed one after the other; memory holds three outputs."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._newest: _Output | None = None
        self._computed: tuple[_Output, int] | None = None  # and when it is done
        self._waiting: _Output | None = None

    def add(
        self,
        metrics: StreamingMetrics,
        time: int,
        latency: int,
        labels: Bytes,
        mask: Bytes,
        truth: Bytes | None,
    ) -> None:
        """Let a frame come, and judge by its truth what is the newest output at that moment.

        Args:
            metrics: where to count it.
            time: stamp of the frame in nanoseconds; none before the last one's.
            latency: from stamp to output where nothing else is computed, nanoseconds.
            labels: what is said of the frame: predicted class per pixel, ``uint8 [h,w]``.
            mask: likewise, not zero where an anomaly is reported, ``uint8 [h,w]``.
            truth: ground truth of the frame, ``uint8 [h,w]``; None where there is none.
        """
        self._advance(time)
        come = _Output(time, latency, labels, mask)
        if self._computed is None:
            self._computed = come, time + latency
        else:
            metrics.frames.skipped += self._waiting is not None
            self._waiting = come
        self._advance(time)
        if truth is None:
            return
        if self._newest is None or self._newest.labels.shape != truth.shape:
            metrics.frames.too_early += 1
            return
        metrics.segmentation.update(self._newest.labels, truth)
        metrics.operating.update(self._newest.mask, truth)
        metrics.frames.judged += 1
        metrics.frames.age += time - self._newest.time

    def _advance(self, time: int) -> None:
        """Finish what is done by a time, and begin with what waits."""
        while self._computed is not None and self._computed[1] <= time:
            self._newest, done = self._computed
            following, self._waiting = self._waiting, None
            self._computed = following and (following, done + following.latency)

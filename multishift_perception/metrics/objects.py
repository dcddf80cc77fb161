# SPDX-License-Identifier: Apache-2.0
"""Novel objects and false alarms of a drive, each counted once however many frames show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_perception.classes import NOVEL, VOID
from multishift_perception.ground_plane import Calibration, Mounting, find_on_ground
from multishift_perception.metrics import state as metric_state
from multishift_perception.metrics.checks import ratio
from multishift_perception.metrics.components import Regions
from multishift_perception.metrics.temporal import GAP_NS, per_minute
from multishift_perception.tracking import Box, match_in_order

# An object is found, and a region no false alarm, where it overlaps the other's by so much: the
# least threshold at which SegmentMeIfYouCan looks for objects.
SHARE = 0.25


@dataclass(frozen=True)
class ObjectResult:
    """Objects of a drive; None where nothing defines it.

    Attributes:
        objects: of the ground truth.
        found: of them, in one frame at least.
        found_share: the share.
        found_per_minute: found objects a minute of frames with ground truth.
        false_per_minute: false alarms, each counted once, a minute of frames with ground truth.
        false_objects: how many.
        delay_median: seconds from an object's first frame to the first in which it is found,
            median of those found; 0 is at once.
        delay_mean: their mean.
        distance_median: metres from the camera to the object when it is found first, median of
            those of which it is known.
        distances: how many those are.
    """

    objects: int
    found: int
    found_share: float | None
    found_per_minute: float | None
    false_per_minute: float | None
    false_objects: int
    delay_median: float | None
    delay_mean: float | None
    distance_median: float | None
    distances: int


class ObjectMetrics:
    """What the objects of drives count together."""

    def __init__(self) -> None:
        """Start empty."""
        self.objects = 0
        self.false_objects = 0
        self.span = 0  # nanoseconds between frames with ground truth
        self.delays: list[int] = []  # nanoseconds, of each that is found
        self.distances: list[int] = []  # millimetres, of each of which it is known

    def merge(self, *others: Self) -> None:
        """Add what other objects have counted."""
        for other in others:
            self.objects += other.objects
            self.false_objects += other.false_objects
            self.span += other.span
            self.delays += other.delays
            self.distances += other.distances

    def to_bytes(self) -> bytes:
        """Return what has been counted."""
        counts = np.array([self.objects, self.false_objects, self.span], np.int64)
        arrays = {
            'counts': counts,
            'delays': np.array(self.delays, np.int64),
            'distances': np.array(self.distances, np.int64),
        }
        return metric_state.pack('ObjectMetrics', arrays)

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the metrics that ``to_bytes`` described.

        Raises:
            ValueError: it describes no object metrics.
        """
        arrays = metric_state.unpack('ObjectMetrics', state)
        metrics = cls()
        metrics.objects, metrics.false_objects, metrics.span = arrays['counts'].tolist()
        metrics.delays = arrays['delays'].tolist()
        metrics.distances = arrays['distances'].tolist()
        return metrics

    def result(self) -> ObjectResult:
        """Return the metrics of all drives so far."""
        found = len(self.delays)
        delays, distances = np.array(self.delays) / 1e9, np.array(self.distances) / 1e3
        return ObjectResult(
            objects=self.objects,
            found=found,
            found_share=ratio(found, self.objects),
            found_per_minute=per_minute(found, self.span),
            false_per_minute=per_minute(self.false_objects, self.span),
            false_objects=self.false_objects,
            delay_median=float(np.median(delays)) if found else None,
            delay_mean=ratio(sum(self.delays), found * 1_000_000_000),
            distance_median=float(np.median(distances)) if self.distances else None,
            distances=len(self.distances),
        )


@dataclass(frozen=True)
class Ground:
    """A level camera above flat ground.

    Attributes:
        focal: vertical focal length, in pixels of the image.
        horizon: row of the horizon: the principal point's.
        height: metres above the ground.
    """

    focal: float
    horizon: float
    height: float

    def distance(self, row: int) -> int | None:
        """Return the millimetres ahead of what stands on a row of pixels; None: unknown."""
        calibration = Calibration((self.focal, self.focal, 0.0, self.horizon))
        foot = find_on_ground((0.0, row + 0.5), calibration, Mounting(self.height))
        return None if foot is None else round(1e3 * foot.distance)


@dataclass
class _Track:
    """An object over frames."""

    metrics: ObjectMetrics  # of the group in which it came
    first: int
    last: int
    box: Box
    found: bool = False


@dataclass
class _Tracks:
    open: list[_Track] = field(default_factory=list)

    def link(self, boxes: list[Box], time: int) -> list[_Track | None]:
        """Return for each box the track that goes on there: the nearest, within one box's size."""
        self.open = [track for track in self.open if 0 < time - track.last <= GAP_NS]
        pairs = sorted(
            (distance, t, b)
            for t, track in enumerate(self.open)
            for b, box in enumerate(boxes)
            if (distance := _distance(track.box, box)) is not None
        )
        found = match_in_order((t, b) for _, t, b in pairs)
        return [self.open[found[b]] if b in found else None for b in range(len(boxes))]


def _distance(first: Box, second: Box) -> float | None:
    """Return the squared distance of two boxes' centres; None where they are no neighbours.

    Neighbours are boxes that touch when each grows by its own size on every side.
    """
    square = 0.0
    for axis in (0, 1):
        a, b = first[axis], second[axis]
        size_a, size_b = first[axis + 2], second[axis + 2]
        gap = max(a, b) - min(a + size_a, b + size_b)
        if gap > size_a + size_b:
            return None
        square += (a + size_a / 2 - b - size_b / 2) ** 2
    return square


class ObjectLog:
    """Follows the objects of one camera from frame to frame.

    Objects are the 8-connected regions of novel truth, and alarms those of the mask. An object is
    found in a frame where the mask covers ``SHARE`` of it, and a region is no false alarm where
    ``SHARE`` of it, without void, is novel, or all of it is void. Regions of frames that follow
    each other within a second are one object where they are neighbours, the nearest first: that
    is what a ground truth without numbered objects allows. It is another rule than that of
    ``Tracker``, which numbers objects on the vehicle: figures must not change when that is tuned.
    """

    def __init__(self, ground: Ground | None = None) -> None:
        """Start before the first frame."""
        self._ground = ground
        self._objects, self._alarms = _Tracks(), _Tracks()
        self._last: int | None = None

    def add(
        self,
        metrics: ObjectMetrics,
        time: int,
        mask: Bytes,
        truth: Bytes,
        regions: Regions,
        objects: Regions,
    ) -> None:
        """Count a frame with ground truth.

        Args:
            metrics: where to count what comes with it.
            time: of the frame in nanoseconds.
            mask: ``uint8 [h,w]``, not zero where an anomaly is reported.
            truth: ground truth, ``uint8 [h,w]``.
            regions: of the mask.
            objects: regions of novel truth.
        """
        if self._last is not None and 0 < time - self._last <= GAP_NS:
            metrics.span += time - self._last
        self._last = time
        covered = objects.count(mask != 0) >= SHARE * objects.sizes
        self._follow(metrics, time, _boxes(objects.boxes), covered)
        judged = regions.sizes - regions.count(truth == VOID)
        is_false = (regions.count(truth == NOVEL) < SHARE * judged) & (judged > 0)
        false = _boxes(regions.boxes[is_false])
        for box, track in zip(false, self._alarms.link(false, time), strict=True):
            if track is None:
                metrics.false_objects += 1
                self._alarms.open.append(_Track(metrics, time, time, box))
            else:
                track.last, track.box = time, box

    def _follow(
        self, metrics: ObjectMetrics, time: int, boxes: list[Box], covered: NDArray[np.bool_]
    ) -> None:
        tracks = self._objects.link(boxes, time)
        for box, known, is_found in zip(boxes, tracks, covered.tolist(), strict=True):
            track = known
            if track is None:
                track = _Track(metrics, time, time, box)
                metrics.objects += 1
                self._objects.open.append(track)
            track.last, track.box = time, box
            if is_found and not track.found:
                track.found = True
                # Where the object came, not where it is by now: both counts are of one group.
                track.metrics.delays.append(time - track.first)
                if self._ground is not None:
                    distance = self._ground.distance(box[1] + box[3] - 1)
                    if distance is not None:
                        track.metrics.distances.append(distance)


def _boxes(boxes: NDArray[np.int64]) -> list[Box]:
    return [(left, top, width, height) for left, top, width, height in boxes.tolist()]

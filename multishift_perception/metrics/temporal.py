# SPDX-License-Identifier: Apache-2.0
"""How steady outputs are from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics.checks import ratio
from multishift_perception.metrics.components import Regions
from multishift_perception.metrics.counts import Counts

MINUTE_NS = 60_000_000_000
# Frames of a camera that are further apart are no consecutive ones.
GAP_NS = 1_000_000_000


@dataclass(frozen=True)
class TemporalResult:
    """Steadiness over pairs of consecutive frames of a camera; None without any.

    Attributes:
        label_flicker: share of the pixels of one known class in both frames whose label changes.
        mask_flicker: share of the pixels with the same truth in both frames, novel ones among
            them, where the anomaly mask changes.
        label_change: share of all pixels whose label changes, whatever the truth.
        mask_change: the same of the anomaly mask.
        appeared: regions of the mask a minute that overlap none of the frame before.
        vanished: regions a minute that overlap none of the frame after.
        true_appeared: objects of the ground truth a minute that appear so.
        true_vanished: likewise.
    """

    label_flicker: float | None
    mask_flicker: float | None
    label_change: float | None
    mask_change: float | None
    appeared: float | None
    vanished: float | None
    true_appeared: float | None
    true_vanished: float | None


@dataclass
class TemporalCounts(Counts):
    """What changed between consecutive frames.

    Attributes:
        pixels: of all pairs of frames.
        labels: of them, with another label.
        mask: of them, where the mask changed.
        known: pixels of one known class in both.
        known_labels: of them, with another label.
        same: pixels with the same truth in both.
        same_mask: of them, where the mask changed.
        regions: that appeared and that vanished, ``int64 [2]``.
        objects: of the ground truth, likewise.
        span: nanoseconds between the frames of all pairs.
        true_span: of the pairs with ground truth.
    """

    pixels: int = 0
    labels: int = 0
    mask: int = 0
    known: int = 0
    known_labels: int = 0
    same: int = 0
    same_mask: int = 0
    regions: NDArray[np.int64] | int = 0
    objects: NDArray[np.int64] | int = 0
    span: int = 0
    true_span: int = 0

    def result(self) -> TemporalResult:
        """Return shares and rates."""
        appeared, vanished = np.broadcast_to(self.regions, 2).tolist()
        true_appeared, true_vanished = np.broadcast_to(self.objects, 2).tolist()
        return TemporalResult(
            label_flicker=ratio(self.known_labels, self.known),
            mask_flicker=ratio(self.same_mask, self.same),
            label_change=ratio(self.labels, self.pixels),
            mask_change=ratio(self.mask, self.pixels),
            appeared=per_minute(appeared, self.span),
            vanished=per_minute(vanished, self.span),
            true_appeared=per_minute(true_appeared, self.true_span),
            true_vanished=per_minute(true_vanished, self.true_span),
        )


def per_minute(count: int, span: int) -> float | None:
    """Return how many a minute; None without a span, which is in nanoseconds."""
    return ratio(count * MINUTE_NS, span)


@dataclass(frozen=True)
class _Seen:
    time: int
    labels: Bytes
    mask: Bytes
    truth: Bytes | None
    regions: Regions
    objects: Regions | None


class Steadiness:
    """Compares each frame of one camera with the one before; memory holds one frame."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._last: _Seen | None = None

    def add(
        self,
        counts: TemporalCounts,
        time: int,
        labels: Bytes,
        mask: Bytes,
        truth: Bytes | None,
        regions: Regions,
        objects: Regions | None,
    ) -> None:
        """Count what changed since the frame before.

        Args:
            counts: where to count it.
            time: of the frame, in nanoseconds.
            labels: predicted class per pixel, ``uint8 [h,w]``.
            mask: ``uint8 [h,w]``, not zero where an anomaly is reported.
            truth: ground truth, ``uint8 [h,w]``; None where there is none.
            regions: of the mask.
            objects: regions of novel truth; None where there is none.
        """
        last, now = self._last, _Seen(time, labels, mask, truth, regions, objects)
        self._last = now
        if last is None or not 0 < time - last.time <= GAP_NS or last.labels.shape != labels.shape:
            return
        _compare(counts, last, now)


def _compare(counts: TemporalCounts, last: _Seen, now: _Seen) -> None:
    span = now.time - last.time
    other_label = now.labels != last.labels
    other_mask = (now.mask != 0) != (last.mask != 0)
    counts.pixels += other_label.size
    counts.labels += int(np.count_nonzero(other_label))
    counts.mask += int(np.count_nonzero(other_mask))
    counts.regions = counts.regions + _changes(last.regions, now.regions, now.labels.size)
    counts.span += span
    if last.truth is None or now.truth is None:
        return
    same = (now.truth == last.truth) & (now.truth != VOID)
    known = same & (now.truth != NOVEL)
    counts.known += int(np.count_nonzero(known))
    counts.known_labels += int(np.count_nonzero(known & other_label))
    counts.same += int(np.count_nonzero(same))
    counts.same_mask += int(np.count_nonzero(same & other_mask))
    assert last.objects is not None and now.objects is not None
    counts.objects = counts.objects + _changes(last.objects, now.objects, now.labels.size)
    counts.true_span += span


def _changes(last: Regions, now: Regions, pixels: int) -> NDArray[np.int64]:
    """Return how many regions of an image of so many pixels appeared, and how many vanished."""
    return np.array([_lonely(now, last, pixels), _lonely(last, now, pixels)], np.int64)


def _lonely(regions: Regions, others: Regions, pixels: int) -> int:
    """Return how many regions share no pixel with others."""
    covered = np.zeros(pixels, np.bool_)
    covered[others.places] = True
    return int(np.count_nonzero(regions.count(covered) == 0))

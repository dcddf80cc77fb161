"""Keeps the best and the worst images of a data set, small, and draws them in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL, SemanticClass, color_table
from multishift_perception.gallery import jpeg
from multishift_perception.metrics import AnomalyMetrics, SegmentationMetrics
from multishift_perception.overlay import draw_overlay, draw_truth

Bytes = NDArray[np.uint8]
AP, MIOU = 'AP', 'mIoU'
_WIDTH = 480
_ALPHA = 0.5
# Metrics of a single image need few bins.
_BINS = 1 << 14


@dataclass(frozen=True)
class Shown:
    """An image, at most 480 pixels wide, with all that was said of it.

    Attributes:
        name: of the image.
        condition: weather or light; empty where unknown.
        image: RGB ``uint8 [h,w,3]``.
        truth: ground truth ``uint8 [h,w]``.
        labels: most likely class ``uint8 [h,w]``.
        score: ``float32 [h,w]``.
        mask: anomaly mask ``uint8 [h,w]`` at the operating point, if there is one.
    """

    name: str
    condition: str
    image: Bytes
    truth: Bytes
    labels: Bytes
    score: NDArray[np.float32]
    mask: Bytes | None

    def small(self) -> Shown:
        """Return a copy of at most the width that is shown."""
        height, width = self.truth.shape
        columns = min(width, _WIDTH)
        size = (columns, max(1, round(height * columns / width)))
        nearest = [
            None if part is None else cv2.resize(part, size, interpolation=cv2.INTER_NEAREST_EXACT)
            for part in (self.truth, self.labels, self.mask)
        ]
        return Shown(
            self.name,
            self.condition,
            np.asarray(cv2.resize(self.image, size, interpolation=cv2.INTER_AREA), np.uint8),
            np.asarray(nearest[0], np.uint8),
            np.asarray(nearest[1], np.uint8),
            np.asarray(cv2.resize(self.score, size, interpolation=cv2.INTER_AREA), np.float32),
            None if nearest[2] is None else np.asarray(nearest[2], np.uint8),
        )


@dataclass(frozen=True)
class Ranked:
    """An image with the figure it was chosen by, a fraction 0..1."""

    value: float
    shown: Shown


@dataclass(frozen=True)
class Drawing:
    """An image of the report; all pictures are JPEG bytes.

    Attributes:
        name: of the image.
        condition: weather or light; empty where unknown.
        value: the figure it was chosen by, a fraction 0..1.
        image: as it is.
        truth: with its true classes and novel objects.
        overlay: with the most likely classes, and what is taken for novel.
        score: bright where the score is high.
    """

    name: str
    condition: str
    value: float
    image: bytes
    truth: bytes
    overlay: bytes
    score: bytes


class Showcase:
    """Ranks images by their own AP, or by their own mIoU if none of them has a novel pixel."""

    def __init__(self, num_classes: int, *, has_classes: bool, limit: int = 3) -> None:
        """Start empty; of the best and of the worst images at most ``limit`` are kept each."""
        self._num_classes = num_classes
        self._has_classes = has_classes
        self._rankings = {AP: _Ranking(limit), MIOU: _Ranking(limit)}

    @property
    def measure(self) -> str:
        """What the images are ranked by."""
        return AP if self._rankings[AP].best else MIOU

    @property
    def best(self) -> tuple[Ranked, ...]:
        """The best images, the best first."""
        return tuple(self._rankings[self.measure].best)

    @property
    def worst(self) -> tuple[Ranked, ...]:
        """The worst of the other images, the worst first."""
        ranking = self._rankings[self.measure]
        taken = [entry.shown for entry in ranking.best]
        return tuple(e for e in ranking.worst if not any(e.shown is shown for shown in taken))

    def offer(self, shown: Shown) -> None:
        """Consider an image at its own size."""
        if (shown.truth == NOVEL).any():
            anomaly = AnomalyMetrics(_BINS)
            anomaly.update(shown.score, shown.truth)
            self._rankings[AP].offer(anomaly.result().ap, shown)
        elif self._has_classes and not self._rankings[AP].best:
            segmentation = SegmentationMetrics(self._num_classes)
            segmentation.update(shown.labels, shown.truth)
            self._rankings[MIOU].offer(segmentation.result().miou, shown)


class _Ranking:
    def __init__(self, limit: int) -> None:
        self.best: list[Ranked] = []
        self.worst: list[Ranked] = []
        self._limit = limit

    def offer(self, value: float | None, shown: Shown) -> None:
        if value is None:
            return
        among_best = len(self.best) < self._limit or value > self.best[-1].value
        among_worst = len(self.worst) < self._limit or value < self.worst[-1].value
        if among_best or among_worst:
            entry = Ranked(value, shown.small())
            self.best = sorted([*self.best, entry], key=lambda e: -e.value)[: self._limit]
            self.worst = sorted([*self.worst, entry], key=lambda e: e.value)[: self._limit]


def drawn(
    entries: Sequence[Ranked],
    classes: Sequence[SemanticClass],
    *,
    has_classes: bool,
    threshold: float | None,
    score_range: tuple[float, float],
) -> tuple[Drawing, ...]:
    """Draw images for the report.

    Args:
        entries: the images.
        classes: known classes, for their colours.
        has_classes: whether known pixels are labelled with their class; if not, only novel
            objects are drawn over the ground truth.
        threshold: score from which pixels are marked where there is no mask; None marks none.
        score_range: scores that are darkest and brightest.
    """
    colors = color_table(classes)
    low, high = score_range
    drawings = []
    for entry in entries:
        shown = entry.shown
        truth = draw_truth(shown.image, shown.truth, colors, _ALPHA, has_classes=has_classes)
        mask = shown.mask
        if mask is None:
            least = np.inf if threshold is None else threshold
            mask = np.where(shown.score >= least, 255, 0).astype(np.uint8)
        unit = np.clip((shown.score - low) / (high - low), 0, 1)
        heat = cv2.applyColorMap(np.rint(255 * unit).astype(np.uint8), cv2.COLORMAP_INFERNO)
        drawings.append(
            Drawing(
                shown.name,
                shown.condition,
                entry.value,
                jpeg(shown.image),
                jpeg(truth),
                jpeg(draw_overlay(shown.image, shown.labels, mask, colors, _ALPHA)),
                jpeg(np.asarray(heat[..., ::-1], np.uint8)),
            )
        )
    return tuple(drawings)

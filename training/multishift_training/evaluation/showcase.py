# SPDX-License-Identifier: Apache-2.0
"""Keeps the best and the worst images of a data set, small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_perception.classes import NOVEL
from multishift_perception.images.resizing import resize_labels
from multishift_perception.metrics import AnomalyMetrics, SegmentationMetrics
from multishift_perception.metrics import state as metric_state

AP, MIOU = 'AP', 'mIoU'
_WIDTH = 480
_KEPT = 3  # of the best images, and of the worst
_PARTS = ('image', 'truth', 'labels', 'score', 'mask')
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
        return Shown(
            self.name,
            self.condition,
            np.asarray(cv2.resize(self.image, size, interpolation=cv2.INTER_AREA), np.uint8),
            resize_labels(self.truth, size[::-1]).copy(),
            resize_labels(self.labels, size[::-1]).copy(),
            np.asarray(cv2.resize(self.score, size, interpolation=cv2.INTER_AREA), np.float32),
            None if self.mask is None else resize_labels(self.mask, size[::-1]).copy(),
        )


@dataclass(frozen=True)
class Ranked:
    """An image with the figure it was chosen by, a fraction 0..1."""

    value: float
    shown: Shown


class Showcase:
    """Ranks images by their own AP, or by their own mIoU if none of them has a novel pixel."""

    def __init__(
        self,
        num_classes: int,
        *,
        has_classes: bool,
        groups: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        """Start empty; of the best and of the worst images three are kept each, at most."""
        self._num_classes = num_classes
        self._groups = groups
        self._has_classes = has_classes
        self._rankings = {AP: _Ranking(), MIOU: _Ranking()}

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
            segmentation = SegmentationMetrics(self._num_classes, self._groups)
            segmentation.update(shown.labels, shown.truth)
            self._rankings[MIOU].offer(segmentation.result().miou, shown)

    def to_bytes(self) -> bytes:
        """Return the rankings with their images."""
        lists = [part for r in self._rankings.values() for part in (r.best, r.worst)]
        # An image may be in several lists, and is one and the same in all.
        kept = {id(entry.shown): entry.shown for part in lists for entry in part}
        places = {identity: i for i, identity in enumerate(kept)}
        about = {
            'names': [(shown.name, shown.condition) for shown in kept.values()],
            'lists': [[(e.value, places[id(e.shown)]) for e in part] for part in lists],
        }
        arrays = {
            f'{part}/{i}': getattr(shown, part)
            for i, shown in enumerate(kept.values())
            for part in _PARTS
            if getattr(shown, part) is not None
        }
        return metric_state.pack('Showcase', {'about': np.array(json.dumps(about)), **arrays})

    def restore(self, state: bytes) -> None:
        """Take up, while empty, what ``to_bytes`` of another described.

        Raises:
            ValueError: it describes no showcase.
        """
        arrays = metric_state.unpack('Showcase', state)
        about = json.loads(str(arrays['about']))
        kept = [
            Shown(*names, *(arrays.get(f'{part}/{i}') for part in _PARTS))
            for i, names in enumerate(about['names'])
        ]
        lists = [[Ranked(value, kept[i]) for value, i in part] for part in about['lists']]
        for ranking in self._rankings.values():
            ranking.best, ranking.worst, *lists = lists


class _Ranking:
    def __init__(self) -> None:
        self.best: list[Ranked] = []
        self.worst: list[Ranked] = []

    def offer(self, value: float | None, shown: Shown) -> None:
        if value is None:
            return
        among_best = len(self.best) < _KEPT or value > self.best[-1].value
        among_worst = len(self.worst) < _KEPT or value < self.worst[-1].value
        if among_best or among_worst:
            entry = Ranked(value, shown.small())
            self.best = sorted([*self.best, entry], key=lambda e: -e.value)[:_KEPT]
            self.worst = sorted([*self.worst, entry], key=lambda e: e.value)[:_KEPT]

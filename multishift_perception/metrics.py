"""Segmentation and anomaly metrics that stream: memory does not grow with the number of images.

Ground truth is in our label encoding: known classes 0..C-1, 254 novel, 255 void (ignored). All
results are fractions 0..1; what is undefined, such as an AUROC without a novel pixel, is None.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.histogram import Bins, ScoreHistogram


@dataclass(frozen=True)
class SegmentationResult:
    """How well known classes are told apart.

    Attributes:
        miou: Mean intersection over union over the classes that occur in the ground truth.
        iou: IoU per class; None where the class does not occur in the ground truth.
        pixel_accuracy: Share of known pixels with the right class.
        pixels: Known pixels counted.
    """

    miou: float | None
    iou: tuple[float | None, ...]
    pixel_accuracy: float | None
    pixels: int


@dataclass(frozen=True)
class AnomalyResult:
    """How well the score tells novel from known pixels.

    Attributes:
        auroc: Area under the ROC curve; a tie counts one half.
        ap: Average precision (area under the precision-recall steps).
        fpr95: False-positive rate at the first threshold with a true-positive rate >= 95 %.
        novel_pixels: Positives counted.
        known_pixels: Negatives counted.
        error: Bound on the error of each of the three that binning may cause; 0 where exact.
    """

    auroc: float | None
    ap: float | None
    fpr95: float | None
    novel_pixels: int
    known_pixels: int
    error: float


@dataclass(frozen=True)
class OperatingResult:
    """The anomaly mask at its threshold, by pixel: true- and false-positive rate, precision."""

    tpr: float | None
    fpr: float | None
    precision: float | None


class SegmentationMetrics:
    """Confusion matrix over the known classes."""

    def __init__(self, num_classes: int) -> None:
        """Start empty for classes ``0..num_classes-1``."""
        self.num_classes = num_classes
        self._joint = np.zeros((256, 256), np.int64)

    def update(self, labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Add an image.

        Args:
            labels: Predicted class per pixel, ``uint8 [...]``, ``0..C-1``.
            truth: Ground truth, ``uint8`` of the same shape.

        Raises:
            ValueError: The shapes differ, or a value is neither a class, novel nor void.
        """
        joint = _joint(truth, labels)
        _check_values('ground truth', joint.sum(1), self.num_classes, allowed=(NOVEL, VOID))
        _check_values('prediction', joint.sum(0), self.num_classes)
        self._joint += joint

    def merge(self, other: Self) -> None:
        """Add what another object has counted."""
        if other.num_classes != self.num_classes:
            raise ValueError(f'cannot merge {other.num_classes} into {self.num_classes} classes')
        self._joint += other._joint

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Pixels by true (row) and predicted (column) class, ``int64 [C, C]``."""
        return self._joint[: self.num_classes, : self.num_classes]

    def result(self) -> SegmentationResult:
        """Return the metrics of all images so far."""
        hits = np.diag(self.confusion)
        truth, predicted = self.confusion.sum(1), self.confusion.sum(0)
        iou = tuple(
            float(h / (t + p - h)) if t else None
            for h, t, p in zip(hits, truth, predicted, strict=True)
        )
        present = [value for value in iou if value is not None]
        pixels = int(truth.sum())
        return SegmentationResult(
            miou=float(np.mean(present)) if present else None,
            iou=iou,
            pixel_accuracy=_ratio(hits.sum(), pixels),
            pixels=pixels,
        )


class AnomalyMetrics:
    """AUROC, average precision and FPR95 of novel (254) against known pixels; void is ignored.

    Exact for up to 2^18 different scores, ``uint8`` among them; beyond that scores share the bins
    of a histogram, and the error this may cause is bounded and reported (some 1e-5 for the scores
    of networks). An object takes either ``uint8`` or float scores.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._histogram = ScoreHistogram()

    def update(
        self, score: NDArray[np.uint8] | NDArray[np.floating], truth: NDArray[np.uint8]
    ) -> None:
        """Add an image.

        Args:
            score: ``uint8`` or float (compared as float32), larger is more anomalous.
            truth: Ground truth, ``uint8`` of the same shape.

        Raises:
            ValueError: The shapes differ, or a score is NaN or of another kind than before.
        """
        _check_shapes(score, truth)
        valid = truth != VOID
        self._histogram.update(score[valid], truth[valid] == NOVEL)

    def merge(self, other: Self) -> None:
        """Add what another object has counted."""
        self._histogram.merge(other._histogram)

    def result(self) -> AnomalyResult:
        """Return the metrics of all images so far."""
        bins = self._histogram.bins()
        negatives, positives = bins.counts.sum(1).tolist()
        if not negatives or not positives:
            return AnomalyResult(None, None, None, positives, negatives, 0.0)
        return _rank_metrics(bins)


class OperatingPoint:
    """Pixel rates of an anomaly mask: novel (254) are positives, known negatives, void neither."""

    def __init__(self) -> None:
        """Start empty."""
        self._counts = np.zeros((2, 2), np.int64)  # [truth is novel, mask is set]

    def update(self, mask: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Add an image: ``mask`` is non-zero where an anomaly is reported."""
        _check_shapes(mask, truth)
        valid = truth != VOID
        pairs = (truth[valid] == NOVEL) * 2 + (mask[valid] != 0)
        self._counts += np.bincount(pairs, minlength=4).reshape(2, 2)

    def merge(self, other: Self) -> None:
        """Add what another object has counted."""
        self._counts += other._counts

    def result(self) -> OperatingResult:
        """Return the rates over all images so far."""
        (_, false), (missed, found) = self._counts.tolist()
        known = sum(self._counts[0].tolist())
        return OperatingResult(
            tpr=_ratio(found, found + missed),
            fpr=_ratio(false, known),
            precision=_ratio(found, found + false),
        )


class Mergeable(Protocol):
    """Metrics that can take in another of their kind."""

    def merge(self, other: Self) -> None:
        """Add what another object has counted."""


K = TypeVar('K', bound=Hashable)
M = TypeVar('M', bound=Mergeable)


class Grouped(Generic[K, M]):
    """Metrics per group, such as per camera and weather, and over any choice of groups.

    Attributes:
        groups: The metrics of every group asked for so far, in that order.
    """

    def __init__(self, new: Callable[[], M]) -> None:
        """Start empty; ``new`` makes the metrics of a group when it is first asked for."""
        self._new = new
        self.groups: dict[K, M] = {}

    def __getitem__(self, group: K) -> M:
        """Return the metrics of a group."""
        if group not in self.groups:
            self.groups[group] = self._new()
        return self.groups[group]

    def merged(self, groups: Iterable[K] | None = None) -> M:
        """Return new metrics over some groups (default: all)."""
        total = self._new()
        for group in self.groups if groups is None else groups:
            total.merge(self.groups[group])
        return total


def _rank_metrics(bins: Bins) -> AnomalyResult:
    """Compute from counts per bin; pixels of both kinds occur."""
    (known, novel), mixed = bins.counts[:, ::-1], bins.mixed[::-1]  # highest score first
    false, true = np.cumsum(known), np.cumsum(novel)
    false_before, true_before = false - known, true - novel
    negatives, positives = int(false[-1]), int(true[-1])
    weight = novel / positives
    precision = true / (true + false)
    first = int(np.argmax(true / positives >= 0.95))
    # What another order of the pixels inside the mixed bins could change.
    least = (true_before + 1) / (true_before + 1 + false)
    most = true / np.maximum(true + false_before, 1)
    error = max(
        float((weight * known)[mixed].sum() / 2 / negatives),
        float((weight * (most - precision))[mixed].sum()),
        float((weight * (precision - least))[mixed].sum()),
        float(known[first] * mixed[first] / negatives),
    )
    return AnomalyResult(
        auroc=float((weight * (negatives - false_before - known / 2)).sum() / negatives),
        ap=float((weight * precision).sum()),
        fpr95=float(false[first] / negatives),
        novel_pixels=positives,
        known_pixels=negatives,
        error=error,
    )


def _joint(rows: NDArray[np.uint8], columns: NDArray[np.uint8]) -> NDArray[np.int64]:
    _check_shapes(columns, rows)
    pairs = rows.ravel().astype(np.uint16) * np.uint16(256) + columns.ravel()
    return np.bincount(pairs, minlength=65536).reshape(256, 256)


def _check_shapes(values: NDArray[np.generic], truth: NDArray[np.uint8]) -> None:
    if values.shape != truth.shape:
        raise ValueError(f'prediction has shape {values.shape}, ground truth {truth.shape}')


def _check_values(
    what: str, counts: NDArray[np.int64], num_classes: int, allowed: tuple[int, ...] = ()
) -> None:
    for value in np.flatnonzero(counts[num_classes:]) + num_classes:
        if value not in allowed:
            raise ValueError(
                f'{what} has the value {value}; known classes are 0..{num_classes - 1}'
            )


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None

"""Segmentation and anomaly metrics that stream: memory does not grow with the number of images.

Ground truth is in our label encoding: known classes 0..C-1, 254 novel, 255 void (ignored). All
results are fractions 0..1; what is undefined, such as an AUROC without a novel pixel, is None.

Metrics of parts of a data set add up: ``merge`` takes another object, and ``to_bytes`` and
``from_bytes`` bring one from another process.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from multishift_perception import metric_state
from multishift_perception.binning import Binned
from multishift_perception.classes import NOVEL, VOID
from multishift_perception.histogram import ScoreHistogram
from multishift_perception.rank_metrics import RankMetrics
from multishift_perception.score_curve import Curve, curve_of
from multishift_perception.score_keys import Score, common_kind, kind_of, pieces


@dataclass(frozen=True)
class SegmentationResult:
    """How well known classes are told apart.

    Attributes:
        miou: Mean intersection over union over the classes that occur in the ground truth.
        iou: IoU per class; None where the class does not occur in the ground truth.
        pixel_accuracy: Share of known pixels with the right class.
        pixels: Known pixels counted.
        class_accuracy: Share of a class's pixels that are found, also called recall; None where
            the class does not occur in the ground truth.
        mean_class_accuracy: Its mean over the classes that occur.
    """

    miou: float | None
    iou: tuple[float | None, ...]
    pixel_accuracy: float | None
    pixels: int
    class_accuracy: tuple[float | None, ...]
    mean_class_accuracy: float | None


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
        fpr95_nearest: False-positive rate at the recall nearest to 95 %, be it below or above, as
            the published MultiShiftSeg code has it.
        auroc_bounds: Lowest and highest value the exact AUROC can have.
        ap_bounds: The same for the average precision.
        fpr95_bounds: The same for FPR95.
        fpr95_nearest_bounds: The same for its variant.
    """

    auroc: float | None
    ap: float | None
    fpr95: float | None
    novel_pixels: int
    known_pixels: int
    error: float
    fpr95_nearest: float | None = None
    auroc_bounds: tuple[float, float] | None = None
    ap_bounds: tuple[float, float] | None = None
    fpr95_bounds: tuple[float, float] | None = None
    fpr95_nearest_bounds: tuple[float, float] | None = None


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

    def to_bytes(self) -> bytes:
        """Return what has been counted."""
        return metric_state.pack(
            'SegmentationMetrics',
            {'num_classes': np.array(self.num_classes), 'joint': self._joint},
        )

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the metrics that ``to_bytes`` described.

        Raises:
            ValueError: It describes no segmentation metrics.
        """
        arrays = metric_state.unpack('SegmentationMetrics', state)
        metrics = cls(int(arrays['num_classes']))
        metrics._joint += arrays['joint']
        return metrics

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Pixels by true (row) and predicted (column) class, ``int64 [C, C]``."""
        return self._joint[: self.num_classes, : self.num_classes]

    def result(self) -> SegmentationResult:
        """Return the metrics of all images so far."""
        hits = np.diag(self.confusion)
        truth, predicted = self.confusion.sum(1), self.confusion.sum(0)
        iou = _per_class(hits, truth + predicted - hits, truth)
        accuracy = _per_class(hits, truth, truth)
        pixels = int(truth.sum())
        return SegmentationResult(
            miou=_mean(iou),
            iou=iou,
            pixel_accuracy=_ratio(hits.sum(), pixels),
            pixels=pixels,
            class_accuracy=accuracy,
            mean_class_accuracy=_mean(accuracy),
        )


class AnomalyMetrics:
    """AUROC, average precision and FPR95 of novel (254) against known pixels; void is ignored.

    Exact as long as the scores have no more than ``max_bins`` different values, as ``uint8`` ones
    always do. Beyond that scores share bins, narrow ones where there are many pixels and where
    the score is high (``ScoreHistogram``). The results carry bounds of the error this may cause:
    some 1e-5 for 10^7 to 10^9 pixels whatever the range and distribution of their scores, and the
    error itself a fraction of it. An object takes either ``uint8`` or float scores.
    ``ExactAnomalyMetrics`` has no error.
    """

    def __init__(self, max_bins: int = 9 << 16) -> None:
        """Start empty; the default takes 55 MB at most, half the bins half of it."""
        self._kind = ''
        self._histogram = ScoreHistogram(max_bins)

    def update(self, score: Score, truth: NDArray[np.uint8]) -> None:
        """Add an image.

        Args:
            score: ``uint8`` or float (compared as float32), larger is more anomalous.
            truth: Ground truth, ``uint8`` of the same shape.

        Raises:
            ValueError: The shapes differ, or a score is NaN, infinite or of another kind than
                before. Then nothing is counted.
        """
        self._kind = common_kind(self._kind, kind_of(score))
        for known, novel in pieces(score, truth):
            self._histogram.add(known, novel)

    def merge(self, other: Self) -> None:
        """Add what another object has counted."""
        self._kind = common_kind(self._kind, other._kind)
        self._histogram.merge(other._histogram)

    def to_bytes(self) -> bytes:
        """Return what has been counted: a few bytes per bin."""
        binned = self._histogram.binned()
        return metric_state.pack(
            'AnomalyMetrics',
            {
                'score': np.array(self._kind),
                'codes': np.diff(binned.codes, prepend=0),  # small numbers: they compress well
                'counts': binned.counts,
            },
        )

    @classmethod
    def from_bytes(cls, state: bytes, max_bins: int = 9 << 16) -> Self:
        """Return the metrics that ``to_bytes`` described.

        Raises:
            ValueError: It describes no anomaly metrics.
        """
        arrays = metric_state.unpack('AnomalyMetrics', state)
        metrics = cls(max_bins)
        metrics._kind = str(arrays['score'])
        binned = Binned(np.cumsum(arrays['codes']), arrays['counts'])
        metrics._histogram.merge_binned(binned)
        return metrics

    def result(self) -> AnomalyResult:
        """Return the metrics of all images so far."""
        bins = self._histogram.bins()
        known, novel = bins.counts.sum(1).tolist()
        if not known or not novel:
            return AnomalyResult(None, None, None, novel, known, 0.0)
        metrics = RankMetrics(bins)
        auroc, ap = metrics.auroc(), metrics.ap()
        fpr95, nearest = metrics.fpr95(), metrics.fpr95_nearest()
        return AnomalyResult(
            auroc=auroc.estimate,
            ap=ap.estimate,
            fpr95=fpr95.estimate,
            novel_pixels=novel,
            known_pixels=known,
            error=max(figure.error for figure in (auroc, ap, fpr95)),
            fpr95_nearest=nearest.estimate,
            auroc_bounds=(auroc.lower, auroc.upper),
            ap_bounds=(ap.lower, ap.upper),
            fpr95_bounds=(fpr95.lower, fpr95.upper),
            fpr95_nearest_bounds=(nearest.lower, nearest.upper),
        )

    def curve(self, points: int = 1000) -> Curve | None:
        """Return true- and false-positive rate and precision over thresholds, for charts.

        Args:
            points: Thresholds at most, spread evenly along the ROC curve.

        Returns:
            None where known or novel pixels are missing.
        """
        bins = self._histogram.bins()
        return curve_of(bins, self._kind, points) if bins.counts.sum(1).all() else None


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

    def to_bytes(self) -> bytes:
        """Return what has been counted."""
        return metric_state.pack('OperatingPoint', {'counts': self._counts})

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the rates that ``to_bytes`` described.

        Raises:
            ValueError: It describes no operating point.
        """
        point = cls()
        point._counts += metric_state.unpack('OperatingPoint', state)['counts']
        return point

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


def _per_class(
    part: NDArray[np.int64], whole: NDArray[np.int64], truth: NDArray[np.int64]
) -> tuple[float | None, ...]:
    """Return a share per class; None where the class does not occur in the ground truth."""
    return tuple(float(p / w) if t else None for p, w, t in zip(part, whole, truth, strict=True))


def _mean(values: tuple[float | None, ...]) -> float | None:
    """Return the mean of what is defined."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None

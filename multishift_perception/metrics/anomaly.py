# SPDX-License-Identifier: Apache-2.0
"""How well the score tells novel from known pixels, at all thresholds together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.metrics import state as metric_state
from multishift_perception.metrics.curve import Curve, curve_of
from multishift_perception.metrics.histogram import Bins, ScoreHistogram
from multishift_perception.metrics.ranking import RankMetrics
from multishift_perception.metrics.score_keys import Score, common_kind, kind_of, pieces


@dataclass(frozen=True)
class AnomalyResult:
    """How well the score tells novel from known pixels.

    Attributes:
        auroc: area under the ROC curve; a tie counts one half.
        ap: average precision (area under the precision-recall steps).
        fpr95: False-positive rate at the first threshold with a true-positive rate >= 95 %.
        novel_pixels: positives counted.
        known_pixels: negatives counted.
        error: bound on the error of each of the three that binning may cause; 0 where exact.
        fpr95_nearest: False-positive rate at the recall nearest to 95 %, be it below or above, as
            the published MultiShiftSeg code has it.
        auroc_bounds: lowest and highest value the exact AUROC can have.
        ap_bounds: the same for the average precision.
        fpr95_bounds: the same for FPR95.
        fpr95_nearest_bounds: the same for its variant.
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


class AnomalyMetrics:
    """AUROC, average precision and FPR95 of novel (254) against known pixels; void is ignored.

    Exact as long as the scores have no more than ``max_bins`` different values, as ``uint8`` ones
    always do. Beyond that scores share bins, narrow ones where there are many pixels and where
    the score is high (``ScoreHistogram``). The results carry bounds of the error this may cause:
    some 1e-5 for 10^7 to 10^9 pixels whatever the range and distribution of their scores, and the
    error itself a fraction of it. An object takes either ``uint8`` or float scores.
    ``ExactAnomalyMetrics`` has no error.
    """

    def __init__(self, max_bins: int = 9 << 16, max_pending: int = 1 << 22) -> None:
        """Start empty.

        Args:
            max_bins: different scores at most; the default takes 55 MB, half the bins half of it.
            max_pending: pixels that are sorted in at a time, with 4 bytes each.
        """
        self._kind = ''
        self._histogram = ScoreHistogram(max_bins, max_pending)

    def update(self, score: Score, truth: NDArray[np.uint8]) -> None:
        """Add an image.

        Args:
            score: ``uint8`` or float (compared as float32), larger is more anomalous.
            truth: ground truth, ``uint8`` of the same shape.

        Raises:
            ValueError: the shapes differ, or a score is NaN, infinite or of another kind than
                before. Then nothing is counted.
        """
        self._kind = common_kind(self._kind, kind_of(score))
        for known, novel in pieces(score, truth):
            self._histogram.add(known, novel)

    def merge(self, *others: Self) -> None:
        """Add what other objects have counted; all at once costs less, and loses less to bins."""
        for other in others:
            self._kind = common_kind(self._kind, other._kind)
        self._histogram.merge(*(other._histogram for other in others))

    def to_bytes(self) -> bytes:
        """Return what has been counted; who goes on from there ends with the same figures."""
        return metric_state.pack(
            'AnomalyMetrics', {'score': np.array(self._kind), **self._histogram.to_arrays()}
        )

    @classmethod
    def from_bytes(cls, state: bytes, max_bins: int = 9 << 16) -> Self:
        """Return the metrics that ``to_bytes`` described.

        Raises:
            ValueError: it describes no anomaly metrics.
        """
        arrays = metric_state.unpack('AnomalyMetrics', state)
        metrics = cls(max_bins)
        metrics._kind = str(arrays['score'])
        metrics._histogram.from_arrays(arrays)
        return metrics

    def bins(self) -> Bins:
        """Return the counts by score so far."""
        return self._histogram.bins()

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
            points: thresholds at most, spread evenly along the ROC curve.

        Returns:
            None where known or novel pixels are missing.
        """
        bins = self._histogram.bins()
        return curve_of(bins, self._kind, points) if bins.counts.sum(1).all() else None

# SPDX-License-Identifier: Apache-2.0
"""Metrics and index of the BRAVO challenge: can one rely on what a network says of itself?

Vu et al., "The BRAVO Semantic Segmentation Challenge Results in UNCV2024", ECCV Workshops 2024;
the definitions are those of the challenge's toolkit, github.com/valeoai/bravo_challenge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes, as_bytes
from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import state as metric_state
from multishift_perception.metrics.checks import check_shapes
from multishift_perception.metrics.pairs import count_pairs

LEVELS = 1 << 16
_ECE_BINS = 15
_RECALL = 0.95
_RIGHT, _WRONG, _NOVEL, _VOID = range(4)


@dataclass(frozen=True)
class BravoResult:
    """Fractions 0..1; None where a kind of pixel is missing that the figure is of.

    Attributes:
        ece: expected calibration error of the confidence, in 15 bins of equal width.
        auroc: area under the ROC curve of right against wrong pixels, by confidence.
        aupr_success: average precision of the right ones.
        aupr_error: average precision of the wrong ones, by lack of confidence.
        fpr95: wrong pixels at the first confidence that takes 95 % of the right ones.
        auroc_ood: area under the ROC curve of novel against known pixels, by lack of confidence.
        aupr_ood: average precision of the novel ones.
        fpr95_ood: known pixels at the first confidence that takes 95 % of the novel ones.
        semantic: harmonic mean of mIoU, 1 - ECE, AUROC, both AUPR and 1 - FPR95.
        ood: harmonic mean of AUROC, AUPR and 1 - FPR95 of novel pixels.
        index: harmonic mean of ``semantic`` and ``ood``.
    """

    ece: float | None
    auroc: float | None
    aupr_success: float | None
    aupr_error: float | None
    fpr95: float | None
    auroc_ood: float | None
    aupr_ood: float | None
    fpr95_ood: float | None
    semantic: float | None
    ood: float | None
    index: float | None


class BravoMetrics:
    """Pixels by confidence in 65536 levels; novel (254) is what BRAVO calls invalid.

    The challenge takes a sample of 100,000 pixels of larger images; here all count.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._counts = np.zeros((3, LEVELS), np.int64)  # right, wrong, novel

    def update(
        self,
        labels: Bytes,
        confidence: NDArray[np.uint16] | Bytes,
        truth: Bytes,
        *,
        scale: NDArray[np.uint16] | None = None,
    ) -> None:
        """Add an image.

        Args:
            labels: predicted class per pixel, ``uint8 [h,w]``.
            confidence: in that class, ``uint16 [h,w]``: 0 is none, 65535 certain; or ``uint8``
                values that ``scale`` has the confidence of.
            truth: ground truth, ``uint8 [h,w]``.
            scale: confidence that each value stands for, ``uint16 [256]``; None: itself.

        Raises:
            ValueError: the shapes differ.
        """
        check_shapes(labels, truth)
        check_shapes(confidence, truth)
        kind = (labels != truth).view(np.uint8)
        kind[truth == NOVEL] = _NOVEL
        kind[truth == VOID] = _VOID
        if scale is None:
            bins = kind.astype(np.uint32) * np.uint32(LEVELS) + confidence
            found = np.bincount(bins.reshape(-1), minlength=4 * LEVELS).reshape(4, LEVELS)
            self._counts += found[:_VOID]
        else:
            by_value = count_pairs(kind, as_bytes(confidence), firsts=_VOID + 1)
            for row, pixels in zip(self._counts, by_value[:_VOID], strict=True):
                np.add.at(row, scale, pixels)

    def merge(self, *others: Self) -> None:
        """Add what other objects have counted."""
        for other in others:
            self._counts += other._counts

    def to_bytes(self) -> bytes:
        """Return what has been counted."""
        row, level = np.nonzero(self._counts)
        arrays = {'row': row, 'level': level, 'pixels': self._counts[row, level]}
        return metric_state.pack('BravoMetrics', arrays)

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return the metrics that ``to_bytes`` described.

        Raises:
            ValueError: it describes no BRAVO metrics.
        """
        arrays = metric_state.unpack('BravoMetrics', state)
        metrics = cls()
        metrics._counts[arrays['row'], arrays['level']] = arrays['pixels']
        return metrics

    def result(self, miou: float | None) -> BravoResult:
        """Return the metrics of all images so far; the mIoU is that of their known pixels."""
        right, wrong, novel = self._counts
        auroc, fpr95, success = _rank(right, wrong)
        # Lack of confidence ranks the other way round.
        _, _, error = _rank(wrong[::-1], right[::-1])
        auroc_ood, fpr95_ood, aupr_ood = _rank(novel[::-1], (right + wrong)[::-1])
        ece = _calibration_error(right, right + wrong)
        semantic = harmonic_mean([miou, _less(ece), auroc, success, error, _less(fpr95)])
        ood = harmonic_mean([auroc_ood, aupr_ood, _less(fpr95_ood)])
        return BravoResult(
            ece=ece,
            auroc=auroc,
            aupr_success=success,
            aupr_error=error,
            fpr95=fpr95,
            auroc_ood=auroc_ood,
            aupr_ood=aupr_ood,
            fpr95_ood=fpr95_ood,
            semantic=semantic,
            ood=ood,
            index=harmonic_mean([semantic, ood]),
        )


def harmonic_mean(values: Sequence[float | None]) -> float | None:
    """Return the harmonic mean; None where a value is undefined, 0 where one is 0."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return 0.0 if 0 in known else len(known) / sum(1 / value for value in known)


def _less(value: float | None) -> float | None:
    return None if value is None else 1 - value


def _rank(
    positive: NDArray[np.int64], negative: NDArray[np.int64]
) -> tuple[float | None, float | None, float | None]:
    """Return AUROC, FPR95 and AUPR of counts by level, the lowest first."""
    true, false = np.cumsum(positive[::-1]), np.cumsum(negative[::-1])
    if not true[-1] or not false[-1]:
        return None, None, None
    recall = np.append(0.0, true / true[-1])
    alarms = np.append(0.0, false / false[-1])
    auroc = float(np.sum(np.diff(alarms) * (recall[1:] + recall[:-1]) / 2))
    precision = true / np.maximum(true + false, 1)
    aupr = float(np.sum(np.diff(recall) * precision))
    return auroc, float(alarms[np.searchsorted(recall, _RECALL)]), aupr


def _calibration_error(right: NDArray[np.int64], all_: NDArray[np.int64]) -> float | None:
    if not all_.any():
        return None
    starts = np.round(np.linspace(0, LEVELS, _ECE_BINS + 1)).astype(np.int64)[:-1]
    confidence = (np.arange(LEVELS) + 0.5) / LEVELS
    hits, total, trust = (np.add.reduceat(v, starts) for v in (right, all_, all_ * confidence))
    return float(np.abs(hits - trust).sum() / total.sum())

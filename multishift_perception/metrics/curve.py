# SPDX-License-Identifier: Apache-2.0
"""The trade-off between found novel pixels and false alarms, threshold by threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multishift_perception.metrics.histogram import Bins
from multishift_perception.metrics.score_keys import to_scores


@dataclass(frozen=True)
class Curve:
    """What a threshold finds, from the highest threshold to the lowest, which takes all pixels.

    A pixel is reported where its score is at or above the threshold.

    Attributes:
        threshold: ``float32 [K]``, falling.
        tpr: True-positive rate, also called recall, ``float64 [K]``.
        fpr: False-positive rate, ``float64 [K]``.
        precision: share of novel pixels among the reported ones, ``float64 [K]``.
    """

    threshold: NDArray[np.float32]
    tpr: NDArray[np.float64]
    fpr: NDArray[np.float64]
    precision: NDArray[np.float64]

    def best_threshold(self) -> float:
        """Return the threshold with the highest F1 score by pixel, the highest of several.

        SegmentMeIfYouCan takes its anomaly masks at this threshold.
        """
        f1 = 2 * self.precision * self.tpr / np.maximum(self.precision + self.tpr, 1e-300)
        return float(self.threshold[np.argmax(f1)])


def curve_of(bins: Bins, kind: str, points: int) -> Curve:
    """Return the curve of binned scores of a kind in which known and novel pixels occur.

    Of all thresholds at most ``points`` are kept, evenly spread along the ROC curve, and the
    lowest; a pixel counts where its bin begins.
    """
    low, counts = bins.low[::-1], bins.counts[:, ::-1]
    ends = np.append(np.flatnonzero(low[1:] != low[:-1]), low.size - 1)
    false, true = np.cumsum(counts, axis=1, dtype=np.int64)[:, ends]
    fpr, tpr = false / false[-1], true / true[-1]
    # A threshold is kept where the next one begins another step of the way.
    steps = np.floor((fpr + tpr) / 2 * max(points - 1, 1))
    kept = np.append(steps[1:] != steps[:-1], True)
    return Curve(
        threshold=to_scores(low[ends][kept], kind),
        tpr=tpr[kept],
        fpr=fpr[kept],
        precision=(true / (true + false))[kept],
    )

# SPDX-License-Identifier: Apache-2.0
"""Fits the map from raw score to the calibrated anomaly scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multishift_perception.engine.manifest import Calibration

TPR = 0.95
# Of ordinary pixels. What finds 95 % at the price of more is no mask that anyone can act on.
MOST_FALSE_ALARMS = 0.02
FPR = 0.05
_KNOTS_PER_SIDE = 8
_GAP, _GAP_OF_SPREAD = 1e-4, 1e-5


def fit_calibration(
    known: NDArray[np.float32], novel: NDArray[np.float32], *, dataset: str
) -> Calibration:
    """Fit the calibration on validation scores.

    The operating point is the score that 95 % of the novel pixels reach, unless more than 2 % of
    the known ones do: then it is the score that 2 % of these reach. Where there are no novel
    pixels, it is the one that 5 % of the known pixels reach. On either side of it the scale
    follows the ranks of the scores, so that its 256 steps are spent where scores are.

    Args:
        known: scores, of any scale, of pixels of known classes, ``float32 [K]``, K > 0.
        novel: scores of novel pixels, ``float32 [M]``.
        dataset: what the scores come from, in words, for the manifest.
    """
    if known.size == 0:
        raise ValueError('calibration needs scores of known pixels')
    if novel.size:
        found = float(np.quantile(novel, 1 - TPR))
        tolerable = float(np.quantile(known, 1 - MOST_FALSE_ALARMS))
        point = max(found, tolerable)
        rule = (
            f'score that {TPR:.0%} of novel pixels reach'
            if found >= tolerable
            else f'score that {MOST_FALSE_ALARMS:.0%} of known pixels reach '
            f'({(novel >= point).mean():.0%} of novel ones do)'
        )
        above = novel
    else:
        point = float(np.quantile(known, 1 - FPR))
        rule = f'score that {FPR:.0%} of known pixels reach (no novel pixels to fit on)'
        above = known
    gap = _least_gap(known, novel)
    knots = [
        *_side(known, point, gap, below=True),
        (point, 128.0),
        *_side(above, point, gap, below=False),
    ]
    return Calibration(knots=knots, operating_point=point, rule=rule, dataset=dataset)


def _least_gap(*scores: NDArray[np.float32]) -> float:
    """Return how far knots must lie apart.

    They need not be closer than a small part of the scores' spread, and must not be closer than
    float32, in which engines compute, can tell apart: segments would divide by nothing.
    """
    pooled = np.concatenate(scores).astype(np.float64)
    resolution = 4 * float(np.finfo(np.float32).eps * np.abs(pooled).max())
    return max(min(_GAP, float(np.ptp(pooled)) * _GAP_OF_SPREAD), resolution)


def _side(
    scores: NDArray[np.float32], point: float, gap: float, *, below: bool
) -> list[tuple[float, float]]:
    """Return the knots strictly on one side of the operating point, by rank of the scores."""
    side = scores[scores < point] if below else scores[scores > point]
    ranks = np.linspace(0, 1, _KNOTS_PER_SIDE + 1)
    anomalies = 128 * ranks if below else 128 + 127 * ranks
    if side.size == 0:
        return [(point - 1, 0.0)] if below else [(point + 1, 255.0)]
    quantiles = np.quantile(side, ranks)
    knots: list[tuple[float, float]] = []
    pairs = list(zip(quantiles.tolist(), anomalies.tolist(), strict=True))
    for score, anomaly in pairs[:-1] if below else pairs[1:]:
        previous = knots[-1][0] if knots else (-np.inf if below else point)
        if score - previous > gap and (not below or point - score > gap):
            knots.append((score, anomaly))
    if not knots:
        return [(point - 1, 0.0)] if below else [(point + 1, 255.0)]
    return knots

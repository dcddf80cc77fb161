# SPDX-License-Identifier: Apache-2.0
"""Bounds of rank metrics: no scores that the bins allow may give a figure outside them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from multishift_perception.metrics.histogram import Bins
from multishift_perception.metrics.ranking import RankMetrics


def nested_bins(rng: np.random.Generator) -> Bins:
    """Aligned intervals of up to 32 keys, some within others, with up to 5 pixels a class."""
    level = rng.integers(0, 6, 12) * (rng.random(12) < 0.6)
    low = rng.integers(0, 64, 12) >> level << level
    codes = np.unique(low << 5 | level)
    counts = rng.integers(0, 6, (2, codes.size)) * (rng.random((2, codes.size)) < 0.7)
    counts[:, 0] += 1  # both classes occur
    low, level = codes >> 5, codes & 31
    return Bins(low.astype(np.uint32), (low + (1 << level) - 1).astype(np.uint32), counts)


def scores(rng: np.random.Generator, bins: Bins) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield labels and scores: extreme ones first, then at random, with and without ties."""
    pixels = bins.counts.sum()
    novel = np.repeat([0, 1], bins.counts.sum(1))
    low, high = (
        np.repeat(np.tile(keys, 2), bins.counts.ravel()) for keys in (bins.low, bins.high)
    )
    yield novel, np.where(novel, high, low)
    yield novel, np.where(novel, low, high)
    # Apart from each other, so that no tie lifts a precision.
    yield novel, np.where(novel, low, high) + np.where(low < high, rng.random(pixels) / 2, 0)
    for _ in range(8):
        yield novel, rng.integers(low, high.astype(np.int64) + 1)
        part = rng.random(bins.low.size * 2).repeat(bins.counts.ravel())
        yield novel, low + np.round(part * (high - low))


def nearest(fpr: np.ndarray, tpr: np.ndarray) -> float:
    full = int(np.argmax(tpr == 1))
    distance = np.abs(tpr[1 : full + 1] - 0.95)[::-1]
    return fpr[1 : full + 1][::-1][np.argmin(distance)]


@pytest.mark.slow
def test_no_order_within_bins_leads_out_of_the_bounds() -> None:
    rng = np.random.default_rng(0)
    reached = np.zeros((4, 2), bool)
    for _ in range(60):
        bins = nested_bins(rng)
        metrics = RankMetrics(bins)
        found = [metrics.auroc(), metrics.ap(), metrics.fpr95(), metrics.fpr95_nearest()]
        for novel, score in scores(rng, bins):
            fpr, tpr, _ = roc_curve(novel, score, drop_intermediate=False)
            exact = (
                roc_auc_score(novel, score),
                average_precision_score(novel, score),
                fpr[np.argmax(tpr >= 0.95)],
                nearest(fpr, tpr),
            )
            for i, (figure, bounded) in enumerate(zip(exact, found, strict=True)):
                assert bounded.lower - 1e-12 <= figure <= bounded.upper + 1e-12
                assert bounded.lower <= bounded.estimate <= bounded.upper
                if bounded.lower < bounded.upper:
                    reached[i] |= np.isclose(figure, (bounded.lower, bounded.upper))
    # Bounds are not wider than they need to be, either.
    assert reached[:3].all()

# SPDX-License-Identifier: Apache-2.0
"""The flat-memory metrics on scores made to defeat bins, against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import AnomalyMetrics, AnomalyResult

pytestmark = pytest.mark.slow

IMAGES = 10
Scores = Callable[[np.random.Generator, int, np.ndarray], np.ndarray]


def energies(rng: np.random.Generator, _: int, novel: np.ndarray) -> np.ndarray:
    return rng.normal(-9 + 4 * novel, 2.5)


def saturated(rng: np.random.Generator, _: int, novel: np.ndarray) -> np.ndarray:
    """Most of the scores within 0.001 of 1, many of them 1."""
    return 1 - np.minimum(10 ** rng.normal(-5 - novel, 2), 1)


def skewed(rng: np.random.Generator, _: int, novel: np.ndarray) -> np.ndarray:
    """Sixty decades of both signs."""
    return 10 ** rng.uniform(-30, 30, novel.size) * np.where(
        rng.random(novel.size) < 0.4 + 0.2 * novel, 1, -1
    )


def tied(rng: np.random.Generator, _: int, novel: np.ndarray) -> np.ndarray:
    """Half of the pixels at one value in the middle of the others."""
    values = rng.normal(novel, 1)
    return np.where(rng.random(novel.size) < 0.5, np.float32(0.7), values)


def clustered(rng: np.random.Generator, _: int, novel: np.ndarray) -> np.ndarray:
    """Two thousand clusters, far apart but each hardly wider than some hundred floats."""
    centers = np.random.default_rng(5).normal(0, 5, 2000)
    return rng.choice(centers, novel.size) * (1 + 3e-5 * rng.random(novel.size) + 1e-5 * novel)


def drifting(rng: np.random.Generator, image: int, novel: np.ndarray) -> np.ndarray:
    """Each image of half the scale of the one before."""
    return rng.normal(-9 + 4 * novel, 2.5) / 2**image


def rising(rng: np.random.Generator, image: int, novel: np.ndarray) -> np.ndarray:
    """Each image above the one before."""
    return image + rng.random(novel.size) + 0.3 * novel


def late_cluster(rng: np.random.Generator, image: int, novel: np.ndarray) -> np.ndarray:
    """Any float at first, so that bins get wide; then all scores within a few of those bins."""
    if image < IMAGES // 2:
        values = rng.integers(0, 2**32, novel.size, np.uint32).view(np.float32)
        return np.where(np.abs(values) < 1e30, values, 0)
    return 0.5 + 1e-4 * rng.random(novel.size) + 2e-5 * novel


def images(scores: Scores, size: int, novel: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(1)
    for i in range(IMAGES):
        truth = np.where(rng.random(size) < 0.05, VOID, 0).astype(np.uint8)
        truth[rng.random(size) < novel] = NOVEL
        yield scores(rng, i, truth == NOVEL).astype(np.float32), truth


def expected(data: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float, float]:
    score, truth = (np.concatenate(arrays) for arrays in zip(*data, strict=True))
    score, novel = score[truth != VOID], truth[truth != VOID] == NOVEL
    fpr, tpr, _ = roc_curve(novel, score, drop_intermediate=False)
    return (
        roc_auc_score(novel, score),
        average_precision_score(novel, score),
        fpr[np.argmax(tpr >= 0.95)],
    )


def assert_right(
    result: AnomalyResult, exact: tuple[float, float, float], error: float, bound: float
) -> None:
    figures = (
        (result.auroc, result.auroc_bounds),
        (result.ap, result.ap_bounds),
        (result.fpr95, result.fpr95_bounds),
    )
    for (estimate, (lower, upper)), figure in zip(figures, exact, strict=True):
        assert lower - 1e-12 <= figure <= upper + 1e-12
        assert upper - lower <= 2 * bound
        assert abs(estimate - figure) <= error


@pytest.mark.parametrize(
    'scores',
    [energies, saturated, skewed, tied, clustered, drifting, rising, late_cluster],
)
@pytest.mark.parametrize('novel', [0.03, 0.5])
def test_a_small_histogram_is_right_within_narrow_bounds(scores: Scores, novel: float) -> None:
    data = list(images(scores, 50_000, novel))
    metrics = AnomalyMetrics(max_bins=1 << 13)
    for image in data:
        part = AnomalyMetrics(max_bins=1 << 13)
        part.update(*image)
        metrics.merge(part)

    assert metrics._histogram.bins().low.size <= 1 << 13
    # The default has 80 times the bins.
    assert_right(metrics.result(), expected(data), error=80e-5, bound=80 * 3e-5)


@pytest.mark.parametrize('scores', [energies, skewed, late_cluster])
def test_the_default_is_right_to_1e_5(scores: Scores) -> None:
    data = list(images(scores, 200_000, 0.03))
    metrics = AnomalyMetrics()
    for image in data:
        metrics.update(*image)

    result = metrics.result()

    assert 0 < result.error < 2e-5
    assert_right(result, expected(data), error=1e-5, bound=2e-5)


@pytest.mark.parametrize('scores', [energies, saturated, skewed, clustered, rising])
def test_few_novel_pixels_are_placed_well(scores: Scores) -> None:
    data = list(images(scores, 40_000, 0.0))
    rng = np.random.default_rng(3)
    for score, truth in data[:3]:
        chosen = rng.integers(0, truth.size, 2)
        truth[chosen] = NOVEL
        score[chosen[0]] = np.quantile(score, 0.999)
    metrics = AnomalyMetrics(max_bins=1 << 13)
    for image in data:
        metrics.update(*image)
    assert_right(metrics.result(), expected(data), error=80e-5, bound=80e-5)


@pytest.mark.parametrize('place', [0.0, 0.5, 0.9999, 1.0])
def test_one_novel_pixel_is_placed_to_1e_5(place: float) -> None:
    data = list(images(energies, 120_000, 0.0))
    score, truth = data[-1]
    truth[7], score[7] = NOVEL, np.quantile(np.concatenate([s for s, _ in data]), place)
    metrics = AnomalyMetrics()
    for image in data:
        metrics.update(*image)
    assert metrics._histogram.bins().low.size < sum(np.unique(s).size for s, _ in data)
    assert_right(metrics.result(), expected(data), error=1e-5, bound=1e-5)


def test_bounds_hold_for_every_handful_of_pixels() -> None:
    """Tiny histograms of tiny data, merged often: every kind of nested and shared bin."""
    rng = np.random.default_rng(11)
    shared = 0
    for at_once in 150 * (False, True):
        metrics, data = AnomalyMetrics(max_bins=32), []
        parts: list[AnomalyMetrics] = []
        for _ in range(4):
            truth = np.where(rng.random(60) < rng.choice([0.1, 0.5, 0.9]), NOVEL, 0)
            truth[:2] = 0, NOVEL
            score = (10 ** rng.uniform(-2, 2) * rng.normal(truth == NOVEL)).round(rng.integers(5))
            data.append((score.astype(np.float32), truth.astype(np.uint8)))
            parts.append(AnomalyMetrics(max_bins=32))
            parts[-1].update(*data[-1])
        if at_once:
            metrics.merge(*parts)
        else:
            for part in parts:
                metrics.merge(part)
        result = metrics.result()
        shared += result.error > 0
        assert_right(result, expected(data), error=result.error + 1e-12, bound=1)
    assert shared > 200

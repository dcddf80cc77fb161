# SPDX-License-Identifier: Apache-2.0
"""BRAVO's metrics against their definitions, pixel by pixel and threshold by threshold."""

from __future__ import annotations

import numpy as np
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics.bravo import BravoMetrics, harmonic_mean


def frames(seed: int, count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, NOVEL, VOID], (count, 6, 8), p=[0.3, 0.2, 0.2, 0.2, 0.1])
    labels = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 3, truth.shape))
    labels[labels > 2] = 1
    # Few levels: ties are what goes wrong.
    sure = np.where(
        labels == truth, rng.integers(1, 4, truth.shape), rng.integers(0, 3, truth.shape)
    )
    confidence = np.array([0, 4000, 30000, 65535])[sure]
    return list(
        zip(
            labels.astype(np.uint8),
            confidence.astype(np.uint16),
            truth.astype(np.uint8),
            strict=True,
        )
    )


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    wins = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    return float(np.mean(wins))


def curve(positive: np.ndarray, negative: np.ndarray) -> list[tuple[float, float, float]]:
    """Return recall, share of alarms and precision at each score, from the highest."""
    points = []
    for score in sorted({*positive.tolist(), *negative.tolist()}, reverse=True):
        hits, alarms = (positive >= score).sum(), (negative >= score).sum()
        points.append((hits / positive.size, alarms / negative.size, hits / (hits + alarms)))
    return points


def aupr(positive: np.ndarray, negative: np.ndarray) -> float:
    total, before = 0.0, 0.0
    for recall, _, precision in curve(positive, negative):
        total += (recall - before) * precision
        before = recall
    return total


def fpr95(positive: np.ndarray, negative: np.ndarray) -> float:
    return next(alarms for recall, alarms, _ in curve(positive, negative) if recall >= 0.95)


def test_figures_are_those_of_the_definitions() -> None:
    metrics = BravoMetrics()
    shown = frames(0, 3)
    for frame in shown:
        metrics.update(*frame)
    labels, confidence, truth = (np.concatenate([f[i].ravel() for f in shown]) for i in range(3))
    known, novel = truth < NOVEL, truth == NOVEL
    trust = confidence.astype(float)
    right, wrong = trust[known & (labels == truth)], trust[known & (labels != truth)]

    found = metrics.result(0.4)

    assert found.auroc == pytest.approx(auroc(right, wrong), abs=1e-12)
    assert found.fpr95 == pytest.approx(fpr95(right, wrong), abs=1e-12)
    assert found.aupr_success == pytest.approx(aupr(right, wrong), abs=1e-12)
    assert found.aupr_error == pytest.approx(aupr(-wrong, -right), abs=1e-12)
    assert found.auroc_ood == pytest.approx(auroc(-trust[novel], -trust[known]), abs=1e-12)
    assert found.aupr_ood == pytest.approx(aupr(-trust[novel], -trust[known]), abs=1e-12)
    assert found.fpr95_ood == pytest.approx(fpr95(-trust[novel], -trust[known]), abs=1e-12)

    width = 65536 / 15
    error = 0.0
    for number in range(15):
        low, high = round(number * width), round((number + 1) * width)
        inside = known & (confidence >= low) & (confidence < high)
        if inside.any():
            sure = ((trust[inside] + 0.5) / 65536).mean()
            error += inside.sum() * abs((labels == truth)[inside].mean() - sure) / known.sum()
    assert found.ece == pytest.approx(error, abs=1e-12)

    parts = [0.4, 1 - found.ece, found.auroc, found.aupr_success, found.aupr_error]
    parts.append(1 - found.fpr95)
    assert found.semantic == pytest.approx(6 / sum(1 / part for part in parts))
    assert found.index == pytest.approx(2 / (1 / found.semantic + 1 / found.ood))


def test_parts_add_up_to_the_whole() -> None:
    whole, first, second = BravoMetrics(), BravoMetrics(), BravoMetrics()
    for number, frame in enumerate(frames(1, 4)):
        whole.update(*frame)
        (first if number % 2 else second).update(*frame)
    first.merge(BravoMetrics.from_bytes(second.to_bytes()))
    assert first.result(0.5) == whole.result(0.5)


def test_what_is_missing_is_undefined() -> None:
    labels, confidence, truth = frames(2, 1)[0]
    truth[truth == NOVEL] = VOID
    metrics = BravoMetrics()
    metrics.update(labels, confidence, truth)
    found = metrics.result(0.5)
    assert found.semantic is not None
    assert (found.auroc_ood, found.ood, found.index) == (None, None, None)
    assert BravoMetrics().result(None).ece is None
    assert harmonic_mean([0.0, 1.0]) == 0.0

"""Streaming metrics against scikit-learn on pooled pixels, and their edge cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    jaccard_score,
    roc_auc_score,
    roc_curve,
)

from multishift_perception import histogram
from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import (
    AnomalyMetrics,
    AnomalyResult,
    Grouped,
    OperatingPoint,
    SegmentationMetrics,
)


def truth_map(rng: np.random.Generator, size: int, novel: float = 0.05) -> np.ndarray:
    values = rng.integers(0, 19, size).astype(np.uint8)
    values[rng.random(size) < novel] = NOVEL
    values[rng.random(size) < 0.1] = VOID
    return values


def uint8_scores(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    return np.clip(rng.normal(100 + 60 * (truth == NOVEL), 40), 0, 255).astype(np.uint8)


def logsumexp_scores(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    return rng.normal(-9 + 4 * (truth == NOVEL), 2.5).astype(np.float32)


def probability_scores(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """Many exact zeros and ones, and values over many octaves between them."""
    values = rng.beta(0.1 + 0.5 * (truth == NOVEL), 1.0).astype(np.float32)
    values[rng.random(truth.size) < 0.2] = 0
    values[rng.random(truth.size) < 0.02] = 1
    return values


def mixed_sign_scores(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """Both signs, both zeros and an infinity: the widest range of keys there is."""
    values = rng.normal((truth == NOVEL) * 1.0, 1.0).astype(np.float32)
    values[:3] = (0.0, -0.0, np.inf)
    return values


def fpr95(positive: np.ndarray, score: np.ndarray) -> float:
    false, true, _ = roc_curve(positive, score, drop_intermediate=False)
    return float(false[np.argmax(true >= 0.95)])


def pooled(
    scores: Callable[[np.random.Generator, np.ndarray], np.ndarray], metrics: AnomalyMetrics
) -> tuple[np.ndarray, np.ndarray]:
    """Feed images to the metrics; return all pixels but void: is it novel, and its score."""
    rng = np.random.default_rng(0)
    truths, values = [], []
    for _ in range(6):
        truth = truth_map(rng, 40_000)
        truths.append(truth)
        values.append(scores(rng, truth))
        metrics.update(values[-1].reshape(200, 200), truth.reshape(200, 200))
    truth, value = np.concatenate(truths), np.concatenate(values)
    known = truth != VOID
    # scikit-learn refuses an infinity; the order stays the same.
    return truth[known] == NOVEL, np.minimum(value[known], 1e6)


@pytest.mark.parametrize(
    ('scores', 'max_bins', 'worst'),
    [
        (uint8_scores, 1 << 12, 0.0),
        (logsumexp_scores, 1 << 18, 0.0),
        (logsumexp_scores, 1 << 16, 5e-5),
        (logsumexp_scores, 1 << 12, 3e-3),
        (probability_scores, 1 << 18, 0.0),
        # The threshold of FPR95 falls into a bin of many zeros and a few tiny values.
        (probability_scores, 1 << 12, 0.2),
        (mixed_sign_scores, 1 << 18, 0.0),
        (mixed_sign_scores, 1 << 12, 5e-3),
    ],
)
def test_anomaly_metrics_agree_with_scikit_learn(
    monkeypatch: pytest.MonkeyPatch,
    scores: Callable[[np.random.Generator, np.ndarray], np.ndarray],
    max_bins: int,
    worst: float,
) -> None:
    monkeypatch.setattr(histogram, '_MAX_BINS', max_bins)
    monkeypatch.setattr(histogram, '_MAX_PENDING', 100_000)
    metrics = AnomalyMetrics()
    positive, value = pooled(scores, metrics)

    result = metrics.result()

    assert metrics._histogram.bins().keys.size <= max_bins
    assert 0 <= result.error <= worst
    bound = result.error + 1e-12
    assert result.auroc == pytest.approx(roc_auc_score(positive, value), abs=bound)
    assert result.ap == pytest.approx(average_precision_score(positive, value), abs=bound)
    assert result.fpr95 == pytest.approx(fpr95(positive, value), abs=bound)
    assert (result.novel_pixels, result.known_pixels) == (positive.sum(), (~positive).sum())


def test_order_and_split_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, '_MAX_BINS', 256)
    monkeypatch.setattr(histogram, '_MAX_PENDING', 4000)
    rng = np.random.default_rng(2)
    truths = [truth_map(rng, 5_000) for _ in range(4)]
    # Ranges that grow: every update and merge has to refit the bins.
    parts = [(mixed_sign_scores(rng, t) * np.float32(10.0**i), t) for i, t in enumerate(truths)]
    whole, backwards, merged = AnomalyMetrics(), AnomalyMetrics(), AnomalyMetrics()
    for part in parts:
        whole.update(*part)
        single = AnomalyMetrics()
        single.update(*part)
        merged.merge(single)
    for part in reversed(parts):
        backwards.update(*part)
    coarse_into_fine = AnomalyMetrics()
    coarse_into_fine.update(np.float32([1.0]), np.uint8([VOID - 255]))
    coarse_into_fine.merge(whole)

    assert whole.result() == backwards.result() == merged.result()
    assert coarse_into_fine.result().known_pixels == whole.result().known_pixels + 1


@pytest.mark.parametrize('only', [0, NOVEL, VOID])
def test_what_is_undefined_is_none(only: int) -> None:
    metrics = AnomalyMetrics()
    truth = np.full(9, only, np.uint8)
    metrics.update(np.arange(9, dtype=np.uint8), truth)

    known, novel = 9 * (only == 0), 9 * (only == NOVEL)
    assert metrics.result() == AnomalyResult(None, None, None, novel, known, 0.0)
    assert AnomalyMetrics().result() == AnomalyResult(None, None, None, 0, 0, 0.0)


def test_a_perfect_score_is_perfect() -> None:
    metrics = AnomalyMetrics()
    metrics.update(np.float32([0.1, 0.2, 0.9]), np.uint8([0, 3, NOVEL]))
    assert metrics.result() == AnomalyResult(1.0, 1.0, 0.0, 1, 2, 0.0)


def test_wrong_scores_are_refused() -> None:
    metrics = AnomalyMetrics()
    truth = np.zeros(2, np.uint8)
    with pytest.raises(ValueError, match='NaN'):
        metrics.update(np.float32([0, np.nan]), truth)
    with pytest.raises(ValueError, match='cannot mix uint8 scores with float'):
        metrics.update(np.zeros(2, np.uint8), truth)
    with pytest.raises(ValueError, match='int64'):
        AnomalyMetrics().update(np.zeros(2, np.int64), truth)
    with pytest.raises(ValueError, match='shape'):
        metrics.update(np.zeros(3, np.float32), truth)


def test_segmentation_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    metrics = SegmentationMetrics(19)
    truths = [truth_map(rng, 10_000) for _ in range(3)]
    for truth in truths:
        truth[truth == 7] = 6  # class 7 never occurs in the ground truth
    labels = [
        np.where(rng.random(t.size) < 0.7, np.minimum(t, 18), rng.integers(0, 19, t.size)).astype(
            np.uint8
        )
        for t in truths
    ]
    for label, truth in zip(labels, truths, strict=True):
        metrics.update(label.reshape(100, 100), truth.reshape(100, 100))
    truth, label = np.concatenate(truths), np.concatenate(labels)
    truth, label = truth[truth < 19], label[truth < 19]

    result = metrics.result()

    classes = list(range(19))
    np.testing.assert_array_equal(
        metrics.confusion, confusion_matrix(truth, label, labels=classes)
    )
    expected = jaccard_score(truth, label, labels=classes, average=None)
    present = [c for c in classes if c != 7]
    assert result.iou[7] is None
    assert [result.iou[c] for c in present] == pytest.approx(expected[present])
    assert result.miou == pytest.approx(expected[present].mean())
    assert result.pixel_accuracy == pytest.approx((truth == label).mean())
    assert result.pixels == truth.size


def test_segmentation_without_known_pixels_is_undefined() -> None:
    metrics = SegmentationMetrics(2)
    metrics.update(np.zeros(3, np.uint8), np.uint8([NOVEL, VOID, VOID]))
    result = metrics.result()
    assert (result.miou, result.pixel_accuracy, result.iou) == (None, None, (None, None))


def test_values_outside_the_classes_are_refused() -> None:
    metrics = SegmentationMetrics(3)
    with pytest.raises(ValueError, match=r'ground truth has the value 7; known .* 0\.\.2'):
        metrics.update(np.uint8([0]), np.uint8([7]))
    with pytest.raises(ValueError, match='prediction has the value 254'):
        metrics.update(np.uint8([NOVEL]), np.uint8([0]))
    assert metrics.result().pixels == 0


def test_operating_point_counts_pixels() -> None:
    point = OperatingPoint()
    point.update(np.uint8([255, 0, 255, 0, 0, 255]), np.uint8([NOVEL, NOVEL, 1, 2, 3, VOID]))
    result = point.result()
    assert (result.tpr, result.fpr, result.precision) == (1 / 2, 1 / 3, 1 / 2)
    nothing = OperatingPoint().result()
    assert (nothing.tpr, nothing.fpr, nothing.precision) == (None, None, None)


def test_groups_add_up_to_all() -> None:
    grouped = Grouped(lambda: SegmentationMetrics(2))
    grouped['fog'].update(np.uint8([0, 0]), np.uint8([0, 1]))
    grouped['clear'].update(np.uint8([1, 1]), np.uint8([1, 1]))

    assert grouped['fog'].result().pixel_accuracy == 0.5
    assert grouped['clear'].result().pixel_accuracy == 1.0
    assert grouped.merged().result().pixel_accuracy == 0.75
    assert grouped.merged(['clear']).result().pixel_accuracy == 1.0
    assert list(grouped.groups) == ['fog', 'clear']

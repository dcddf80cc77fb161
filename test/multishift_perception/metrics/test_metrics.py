# SPDX-License-Identifier: Apache-2.0
"""Streaming metrics against scikit-learn on pooled pixels, and their edge cases."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    jaccard_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import (
    AnomalyMetrics,
    AnomalyResult,
    Grouped,
    OperatingPoint,
    SegmentationMetrics,
)
from multishift_perception.metrics.histogram import ScoreHistogram
from multishift_perception.metrics.score_keys import pieces


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
    """Both signs, both zeros and the largest floats: the widest range of keys there is."""
    values = rng.normal((truth == NOVEL) * 1.0, 1.0).astype(np.float32)
    largest = np.finfo(np.float32).max
    values[:4] = (0.0, -0.0, largest, -largest)
    return values


def fpr95(positive: np.ndarray, score: np.ndarray) -> float:
    false, true, _ = roc_curve(positive, score, drop_intermediate=False)
    return float(false[np.argmax(true >= 0.95)])


def fpr95_nearest(positive: np.ndarray, score: np.ndarray) -> float:
    """The published rule, threshold by threshold."""
    best = (np.inf, 0.0, 0.0)
    false, true, _ = roc_curve(positive, score, drop_intermediate=False)
    for fpr, recall in zip(false[1:], true[1:], strict=True):
        # Of equal distances the larger recall, of equal recalls the lower threshold.
        best = min(best, (abs(recall - 0.95), -recall, -fpr))
        if recall == 1:
            break
    return -best[2]


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
    return truth[known] == NOVEL, value[known]


@pytest.mark.slow
@pytest.mark.parametrize(
    ('scores', 'max_bins', 'worst'),
    [
        (uint8_scores, 1 << 12, 0.0),
        (logsumexp_scores, 1 << 18, 0.0),
        (logsumexp_scores, 1 << 16, 1e-4),
        (logsumexp_scores, 1 << 12, 6e-3),
        (probability_scores, 1 << 18, 0.0),
        (probability_scores, 1 << 12, 1e-3),
        (mixed_sign_scores, 1 << 18, 0.0),
        (mixed_sign_scores, 1 << 12, 6e-3),
    ],
)
def test_anomaly_metrics_agree_with_scikit_learn(
    scores: Callable[[np.random.Generator, np.ndarray], np.ndarray], max_bins: int, worst: float
) -> None:
    metrics = AnomalyMetrics(max_bins)
    positive, value = pooled(scores, metrics)

    result = metrics.result()

    assert metrics._histogram.bins().low.size <= max_bins
    assert 0 <= result.error <= worst
    assert (result.error == 0) == (np.unique(value).size <= max_bins)
    assert (result.novel_pixels, result.known_pixels) == (positive.sum(), (~positive).sum())
    for estimate, bounds, exact in (
        (result.auroc, result.auroc_bounds, roc_auc_score(positive, value)),
        (result.ap, result.ap_bounds, average_precision_score(positive, value)),
        (result.fpr95, result.fpr95_bounds, fpr95(positive, value)),
        (result.fpr95_nearest, result.fpr95_nearest_bounds, fpr95_nearest(positive, value)),
    ):
        assert bounds[0] - 1e-12 <= exact <= bounds[1] + 1e-12
        assert bounds[0] <= estimate <= bounds[1]
    for name in ('auroc', 'ap', 'fpr95'):
        estimate, bounds = getattr(result, name), getattr(result, f'{name}_bounds')
        assert max(estimate - bounds[0], bounds[1] - estimate) <= result.error


def test_order_and_split_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    truths = [truth_map(rng, 40_000) for _ in range(4)]
    # Ranges that grow, and more pixels than are sorted at a time.
    parts = [(mixed_sign_scores(rng, t) * np.float32(0.1**i), t) for i, t in enumerate(truths)]
    whole, backwards, merged = (AnomalyMetrics(1 << 18) for _ in range(3))
    for part in parts:
        whole.update(*part)
        single = AnomalyMetrics(1 << 18)
        single.update(*part)
        merged.merge(AnomalyMetrics.from_bytes(single.to_bytes()))
    for part in reversed(parts):
        backwards.update(*part)

    assert whole.result() == backwards.result() == merged.result()
    assert whole.result().error == 0


@pytest.mark.slow
@pytest.mark.parametrize('max_bins', [1 << 12, 1 << 20])
def test_bins_go_on_as_if_never_interrupted(max_bins: int) -> None:
    rng = np.random.default_rng(6)
    straight, interrupted = (ScoreHistogram(max_bins, max_pending=1 << 17) for _ in range(2))
    metrics, others = AnomalyMetrics(max_bins), AnomalyMetrics(max_bins)
    for i in range(9):
        truth = truth_map(rng, 50_000 + i)
        score = logsumexp_scores(rng, truth)
        for known, novel in pieces(score, truth):
            straight.add(known, novel)
            interrupted.add(known, novel)
        arrays = interrupted.to_arrays()
        interrupted = ScoreHistogram(max_bins, max_pending=1 << 17)
        interrupted.from_arrays(arrays)
        metrics.update(score, truth)
        others.update(score, truth)
        others = AnomalyMetrics.from_bytes(others.to_bytes(), max_bins)

    assert others.result() == metrics.result()
    assert (metrics.result().error > 0) == (max_bins == 1 << 12)
    for part in ('low', 'high', 'counts'):
        expected = getattr(straight.bins(), part)
        np.testing.assert_array_equal(getattr(interrupted.bins(), part), expected)


def test_different_scores_are_counted_not_their_repetitions() -> None:
    rng = np.random.default_rng(9)
    metrics = AnomalyMetrics(max_bins=4000)
    truths = [truth_map(rng, 50_000) for _ in range(5)]
    scores = [rng.integers(0, 3900, t.size).astype(np.float32) for t in truths]
    for score, truth in zip(scores, truths, strict=True):
        part = AnomalyMetrics(max_bins=4000)
        part.update(score, truth)
        metrics.merge(part)
    truth, score = np.concatenate(truths), np.concatenate(scores)

    assert metrics.result().error == 0
    known = truth != VOID
    expected = average_precision_score(truth[known] == NOVEL, score[known])
    assert metrics.result().ap == pytest.approx(expected, abs=1e-12)


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
    metrics.update(np.array([0.1, 0.2, 0.9], np.float32), np.array([0, 3, NOVEL], np.uint8))
    sure, never = (1.0, 1.0), (0.0, 0.0)
    assert metrics.result() == AnomalyResult(
        1.0, 1.0, 0.0, 1, 2, 0.0, 0.0, sure, sure, never, never
    )


def test_wrong_scores_are_refused_and_not_counted() -> None:
    metrics = AnomalyMetrics()
    truth = np.zeros(100_000, np.uint8)
    for wrong in (np.nan, np.inf, -np.inf, 1e39):
        score = np.zeros(truth.size)
        score[-1] = wrong
        with pytest.raises(ValueError, match='a score is NaN or infinite'):
            metrics.update(score, truth)
    with pytest.raises(ValueError, match='cannot mix uint8 scores with float'):
        metrics.update(np.zeros(2, np.uint8), truth[:2])
    with pytest.raises(ValueError, match='int64'):
        AnomalyMetrics().update(np.zeros(2, np.int64), truth[:2])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='shape'):
        metrics.update(np.zeros(3, np.float32), truth[:2])
    assert metrics.result().known_pixels == 0


def test_the_score_of_a_void_pixel_may_be_anything() -> None:
    metrics = AnomalyMetrics()
    metrics.update(np.array([np.nan, 1, 2], np.float32), np.array([VOID, 0, NOVEL], np.uint8))
    assert metrics.result().auroc == 1


def test_a_state_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match='no state of AnomalyMetrics but of OperatingPoint'):
        AnomalyMetrics.from_bytes(OperatingPoint().to_bytes())
    with pytest.raises(ValueError, match='no state of OperatingPoint'):
        OperatingPoint.from_bytes(OperatingPoint().to_bytes()[:-30])
    with pytest.raises(ValueError, match='no state of SegmentationMetrics'):
        SegmentationMetrics.from_bytes(b'')
    state = OperatingPoint().to_bytes()
    for place in range(0, len(state), 9):
        damaged = bytearray(state)
        damaged[place] ^= 4
        with suppress(ValueError, KeyError):  # of any damage, or none where a date is
            OperatingPoint.from_bytes(bytes(damaged))


@pytest.mark.parametrize('scores', [uint8_scores, logsumexp_scores])
def test_curve_has_true_points_of_the_roc_and_precision_recall_curves(
    scores: Callable[[np.random.Generator, np.ndarray], np.ndarray],
) -> None:
    metrics = AnomalyMetrics()
    positive, value = pooled(scores, metrics)

    curve = metrics.curve(points=100)

    assert 50 < curve.threshold.size <= 100
    assert (np.diff(curve.threshold) < 0).all()
    for i in range(0, curve.threshold.size, 10):
        found = value >= curve.threshold[i]
        assert curve.tpr[i] == pytest.approx(found[positive].mean())
        assert curve.fpr[i] == pytest.approx(found[~positive].mean())
        assert curve.precision[i] == pytest.approx(positive[found].mean())
    assert (curve.tpr[-1], curve.fpr[-1]) == (1, 1)
    assert np.abs(np.diff(curve.tpr)).max() < 0.05
    assert AnomalyMetrics().curve() is None


def test_best_threshold_has_the_highest_f1() -> None:
    metrics = AnomalyMetrics()
    metrics.update(
        np.array([9, 8, 7, 6, 5, 4], np.uint8), np.array([0, NOVEL, NOVEL, 0, NOVEL, 0], np.uint8)
    )
    # F1 at 9, 8 .. 4: 0, 2/5, 4/6, 4/7, 6/8, 6/9.
    assert metrics.curve().best_threshold() == 5


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
    assert result.iou[7] == 0  # predicted, though
    assert list(result.iou) == pytest.approx(expected)
    assert result.miou == pytest.approx(expected.mean())
    assert result.pixel_accuracy == pytest.approx((truth == label).mean())
    assert result.pixels == truth.size
    recall = recall_score(truth, label, labels=classes, average=None, zero_division=0)
    assert result.class_accuracy[7] is None
    assert [result.class_accuracy[c] for c in present] == pytest.approx(recall[present])
    assert result.mean_class_accuracy == pytest.approx(recall[present].mean())


def counted_one_by_one(
    labels: np.ndarray, truth: np.ndarray, num_classes: int
) -> list[float | None]:
    """Return the IoU of each class, from a confusion matrix filled pixel by pixel."""
    confusion = [[0] * num_classes for _ in range(num_classes)]
    for label, true in zip(labels.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if true < num_classes:
            confusion[true][label] += 1
    iou: list[float | None] = []
    for c in range(num_classes):
        found = confusion[c][c]
        missed = sum(confusion[c]) - found
        wrong = sum(row[c] for row in confusion) - found
        whole = found + missed + wrong
        iou.append(found / whole if whole else None)
    return iou


def test_iou_is_that_of_the_confusion_matrix() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        seen, said = rng.permutation(6)[:3], rng.permutation(6)[:3]
        truth = rng.choice([*seen, NOVEL, VOID], (9, 11)).astype(np.uint8)
        labels = rng.choice(said, truth.shape).astype(np.uint8)
        metrics = SegmentationMetrics(6)
        metrics.update(labels, truth)
        expected = counted_one_by_one(labels, truth, 6)
        assert list(metrics.result().iou) == expected
        defined = [value for value in expected if value is not None]
        assert metrics.result().miou == pytest.approx(sum(defined) / len(defined))


def test_class_that_is_only_predicted_counts_nothing_found() -> None:
    metrics = SegmentationMetrics(4)
    # Class 1 takes a known pixel from class 0; class 2 only novel and void ones.
    metrics.update(
        np.array([0, 0, 0, 1, 2, 2], np.uint8), np.array([0, 0, 0, 0, NOVEL, VOID], np.uint8)
    )
    result = metrics.result()
    assert result.iou == (3 / 4, 0, None, None)
    assert result.miou == 3 / 8
    assert result.class_accuracy == (3 / 4, None, None, None)
    assert result.mean_class_accuracy == 3 / 4


def test_segmentation_of_parts_adds_up() -> None:
    rng = np.random.default_rng(5)
    whole, parts = SegmentationMetrics(19), SegmentationMetrics(19)
    for _ in range(3):
        truth, labels = truth_map(rng, 1000), rng.integers(0, 19, 1000, np.uint8)
        whole.update(labels, truth)
        part = SegmentationMetrics(19)
        part.update(labels, truth)
        parts.merge(SegmentationMetrics.from_bytes(part.to_bytes()))
    assert parts.result() == whole.result()
    with pytest.raises(ValueError, match='cannot merge 3 into 19 classes'):
        parts.merge(SegmentationMetrics(3))


@pytest.mark.parametrize('by_bytes', [False, True])
def test_classes_count_as_the_groups_that_labels_stand_for(by_bytes: bool) -> None:
    # Of six classes 0 and 1 are labels, 2 and 3 are group 21, 4 is group 20, and 5 has no word.
    groups = {21: (2, 3), 20: (4,)}
    rng = np.random.default_rng(3)
    truth = rng.choice([0, 1, 20, 21, NOVEL, VOID], 2000).astype(np.uint8)
    labels = rng.integers(0, 6, 2000, np.uint8)
    metrics = SegmentationMetrics(6, groups)
    metrics.update(labels, truth)
    if by_bytes:
        whole = SegmentationMetrics(6, groups)
        whole.merge(SegmentationMetrics.from_bytes(metrics.to_bytes()))
        metrics = whole
    assert metrics.units == (0, 1, 5, 20, 21)
    known = truth < NOVEL
    predicted = np.array([0, 1, 21, 21, 20, 5])[labels[known]]
    expected = jaccard_score(truth[known], predicted, labels=[0, 1, 20, 21], average=None)
    result = metrics.result()
    assert result.iou[2] is None  # predicted, but a class that no label can be
    found = [result.iou[place] for place in (0, 1, 3, 4)]
    assert found == pytest.approx(expected.tolist())
    assert result.miou == pytest.approx(expected.mean())
    assert result.pixel_accuracy == pytest.approx((truth[known] == predicted).mean())
    assert result.pixels == known.sum()


def test_groups_of_classes_must_fit() -> None:
    with pytest.raises(ValueError, match='a class is in two groups'):
        SegmentationMetrics(6, {20: (1, 2), 21: (2, 3)})
    metrics = SegmentationMetrics(6, {20: (1, 2)})
    with pytest.raises(ValueError, match='ground truth has the value 21'):
        metrics.update(np.array([1], np.uint8), np.array([21], np.uint8))
    with pytest.raises(ValueError, match='prediction has the value 20'):
        metrics.update(np.array([20], np.uint8), np.array([20], np.uint8))
    with pytest.raises(ValueError, match='other groups'):
        metrics.merge(SegmentationMetrics(6, {20: (1, 3)}))


def test_segmentation_without_known_pixels_is_undefined() -> None:
    metrics = SegmentationMetrics(2)
    metrics.update(np.zeros(3, np.uint8), np.array([NOVEL, VOID, VOID], np.uint8))
    result = metrics.result()
    assert (result.miou, result.pixel_accuracy, result.iou) == (None, None, (None, None))
    assert (result.mean_class_accuracy, result.class_accuracy) == (None, (None, None))


def test_values_outside_the_classes_are_refused() -> None:
    metrics = SegmentationMetrics(3)
    with pytest.raises(ValueError, match=r'ground truth has the value 7; known .* 0\.\.2'):
        metrics.update(np.array([0], np.uint8), np.array([7], np.uint8))
    with pytest.raises(ValueError, match='prediction has the value 254'):
        metrics.update(np.array([NOVEL], np.uint8), np.array([0], np.uint8))
    assert metrics.result().pixels == 0


def test_operating_point_counts_pixels() -> None:
    point = OperatingPoint()
    point.update(
        np.array([255, 0, 255, 0, 0, 255], np.uint8),
        np.array([NOVEL, NOVEL, 1, 2, 3, VOID], np.uint8),
    )
    result = point.result()
    assert (result.tpr, result.fpr, result.precision) == (1 / 2, 1 / 3, 1 / 2)
    assert OperatingPoint.from_bytes(point.to_bytes()).result() == result
    nothing = OperatingPoint().result()
    assert (nothing.tpr, nothing.fpr, nothing.precision) == (None, None, None)


def test_groups_add_up_to_all() -> None:
    grouped: Grouped[Any, Any] = Grouped(lambda: SegmentationMetrics(2))
    grouped['fog'].update(np.array([0, 0], np.uint8), np.array([0, 1], np.uint8))
    grouped['clear'].update(np.array([1, 1], np.uint8), np.array([1, 1], np.uint8))

    assert grouped['fog'].result().pixel_accuracy == 0.5
    assert grouped['clear'].result().pixel_accuracy == 1.0
    assert grouped.merged().result().pixel_accuracy == 0.75
    assert grouped.merged(['clear']).result().pixel_accuracy == 1.0
    assert list(grouped.groups) == ['fog', 'clear']

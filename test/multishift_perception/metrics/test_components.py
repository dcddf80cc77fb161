# SPDX-License-Identifier: Apache-2.0
"""Component metrics against a transcription of their definition, and by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics.components import (
    ANOMALY_TRACK,
    OBSTACLE_TRACK,
    THRESHOLDS,
    ComponentMetrics,
    Sizes,
)

ALL = Sizes(truth=1, prediction=1)


def drawn(*rows: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mask and truth: ``o`` missed, ``x`` found, ``+`` false, ``v`` void, ``V`` both."""
    cells = np.array([list(row) for row in rows])
    truth = np.zeros(cells.shape, np.uint8)
    truth[(cells == 'o') | (cells == 'x')] = NOVEL
    truth[(cells == 'v') | (cells == 'V')] = VOID
    return np.isin(cells, ['x', '+', 'V']), truth


def measured(*rows: str, sizes: Sizes = ALL) -> ComponentMetrics:
    metrics = ComponentMetrics(sizes)
    metrics.update(*drawn(*rows))
    return metrics


def regions(mask: np.ndarray, least: int) -> tuple[list[set], set]:
    """Return the components of a mask as sets of places, and the places of those too small."""
    count, numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    sets = [{(y, x) for y, x in np.argwhere(numbers == i).tolist()} for i in range(1, count)]
    small = set().union(*(s for s in sets if len(s) < least))
    return [s for s in sets if len(s) >= least], small


def by_definition(
    mask: np.ndarray, truth: np.ndarray, sizes: Sizes
) -> tuple[list[float], list[float]]:
    """Return the sIoU of all objects and the PPV of all finds."""
    objects, small = regions(truth == NOVEL, sizes.truth)
    finds, _ = regions(mask & (truth != VOID), sizes.prediction)
    finds = [left for find in finds if (left := find - small)]
    novel = set().union(*objects)
    siou = []
    for thing in objects:
        touching = set().union(*(find for find in finds if find & thing))
        adjustment = touching & (novel - thing)
        siou.append(len(thing & touching) / (len(thing | touching) - len(adjustment)))
    return siou, [len(find & novel) / len(find) for find in finds]


@pytest.mark.parametrize(
    'sizes', [ALL, Sizes(truth=6, prediction=9), Sizes(truth=9, prediction=1)]
)
def test_random_masks_are_measured_by_the_definition(sizes: Sizes) -> None:
    rng = np.random.default_rng(4)
    metrics, merged = ComponentMetrics(sizes), ComponentMetrics(sizes)
    siou: list[float] = []
    ppv: list[float] = []
    for _ in range(20):
        smooth = cv2.GaussianBlur(rng.normal(size=(2, 40, 50)).transpose(1, 2, 0), (7, 7), 1.5)
        truth = np.where(smooth[..., 0] > 0.12, NOVEL, 3).astype(np.uint8)
        truth[rng.random(truth.shape) < 0.02] = VOID
        mask = smooth.sum(2) > 0.2
        metrics.update(mask.astype(np.uint8) * 255, truth)
        part = ComponentMetrics(sizes)
        part.update(mask, truth)
        merged.merge(ComponentMetrics.from_bytes(part.to_bytes()))
        for values, more in zip((siou, ppv), by_definition(mask, truth, sizes), strict=True):
            values += more

    result = metrics.result()

    assert result == merged.result()
    assert (result.truths, result.predictions) == (len(siou), len(ppv))
    assert min(result.truths, result.predictions) > 50
    assert result.siou == pytest.approx(np.mean(siou))
    assert result.ppv == pytest.approx(np.mean(ppv))
    for threshold, f1 in zip(THRESHOLDS, result.f1_at, strict=True):
        hits = np.count_nonzero(np.array(siou) >= threshold)
        misfits = np.count_nonzero(np.array(ppv) < threshold)
        assert f1 == pytest.approx(2 * hits / (2 * hits + len(siou) - hits + misfits))
    assert result.f1 == pytest.approx(np.mean(result.f1_at))


def test_an_object_found_in_two_parts_is_found_as_well_as_in_one() -> None:
    assert measured('xxoxx').result().siou == 4 / 5
    assert measured('xxxxo').result().siou == 4 / 5


def test_a_mask_over_two_objects_is_not_held_against_either() -> None:
    # Each object: 3 pixels found; 3 + 1 false ones beside the other object's own.
    result = measured('xxx+xxx').result()
    assert result.siou == 3 / 4
    assert result.ppv == 6 / 7


def test_corners_connect() -> None:
    assert measured('x o', ' o ').result().truths == 1


def test_void_parts_a_prediction_and_small_objects_count_as_void() -> None:
    assert measured('++V++').result().predictions == 2
    # The find has the least size with the small object's pixel, which then is left out.
    result = measured('x+++ ooo', sizes=Sizes(truth=2, prediction=4)).result()
    assert (result.truths, result.predictions, result.ppv) == (1, 1, 0.0)
    # A find within a small object is no find at all.
    assert measured('x', sizes=Sizes(truth=2, prediction=1)).result().predictions == 0


def test_thresholds_are_those_of_the_benchmark_to_the_last_digit() -> None:
    assert [f'{t:.17g}' for t in THRESHOLDS] == [
        *('0.25', '0.29999999999999999', '0.34999999999999998', '0.40000000000000002'),
        *('0.45000000000000001', '0.5', '0.55000000000000004', '0.60000000000000009'),
        *('0.65000000000000002', '0.69999999999999996', '0.75'),
    ]


@pytest.mark.parametrize('twentieths', range(5, 16))
def test_thresholds_take_their_own_value_as_a_hit(twentieths: int) -> None:
    """An object of which ``twentieths / 20`` are found, and a find that is novel to that part."""
    row = twentieths * 'x' + (20 - twentieths) * 'o'
    place = twentieths - 5
    f1_at = measured(row).result().f1_at
    # Found at every threshold up to its own, but for 12/20: the benchmark's is a digit above.
    found = place + (twentieths != 12)
    assert f1_at == (1,) * found + (0,) * (11 - found)
    result = measured(row.replace('o', '+')).result()
    assert (result.siou, result.ppv) == (twentieths / 20, twentieths / 20)
    assert result.f1_at == f1_at


def test_f1_is_the_benchmarks_to_the_last_digit() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        metrics = ComponentMetrics(ALL)
        siou, ppv = [], []
        for objects, finds in rng.integers(0, 20, (rng.integers(1, 6), 2)).tolist():
            row = 'o' * (20 - objects) + 'x' * objects + '+' * finds
            metrics.update(*drawn(row))
            siou.append(objects / (20 + finds) if objects else 0.0)
            ppv += [objects / (objects + finds)] if objects + finds else []
        total = 0.0
        for t in np.linspace(0.25, 0.75, 11):
            hits = sum(value >= t for value in siou)
            total += 2 * hits / (2 * hits + len(siou) - hits + sum(value < t for value in ppv))
        assert metrics.result().f1 == total / 11


def test_what_does_not_occur_has_no_figure() -> None:
    nothing = measured('  v').result()
    assert (nothing.siou, nothing.ppv, nothing.f1, nothing.f1_at) == (None, None, None, None)
    missed = measured('oo').result()
    assert (missed.siou, missed.ppv, missed.f1) == (0, None, 0)
    false = measured('++').result()
    assert (false.siou, false.ppv, false.f1) == (None, 0, 0)


def test_what_does_not_fit_is_refused() -> None:
    metrics = ComponentMetrics(OBSTACLE_TRACK)
    with pytest.raises(ValueError, match=r'shape \(2, 3\), ground truth \(3, 2\)'):
        metrics.update(np.zeros((2, 3)), np.zeros((3, 2), np.uint8))
    with pytest.raises(ValueError, match='cannot merge components'):
        metrics.merge(ComponentMetrics(ANOMALY_TRACK))

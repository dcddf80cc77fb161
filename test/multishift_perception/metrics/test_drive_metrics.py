# SPDX-License-Identifier: Apache-2.0
"""Metrics of sequences against plain loops over the same frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.metrics import OperatingPoint, SegmentationMetrics
from multishift_perception.metrics.components import Regions, regions_of
from multishift_perception.metrics.objects import Ground, ObjectLog, ObjectMetrics
from multishift_perception.metrics.streaming import Stream, StreamingMetrics
from multishift_perception.metrics.temporal import Steadiness, TemporalCounts

SECOND = 1_000_000_000


def regions(mask: np.ndarray, truth: np.ndarray | None) -> tuple[Regions, Regions | None]:
    return regions_of(mask != 0, 1), None if truth is None else regions_of(truth == NOVEL, 1)


def drive(seed: int, count: int) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Return times, labels, masks and truths of frames, some without truth, with a gap."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(count):
        truth = rng.choice([0, 1, NOVEL, VOID], (5, 6), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
        labels = rng.integers(0, 2, (5, 6)).astype(np.uint8)
        mask = (rng.random((5, 6)) < 0.3).astype(np.uint8) * 255
        time = i * SECOND // 5 + (2 * SECOND if i >= 6 else 0)
        frames.append((time, labels, mask, None if i % 4 == 3 else truth))
    return frames


@pytest.mark.parametrize('latency_ms', [0, 90, 200, 330, 5000])
def test_streaming_takes_the_newest_output_of_each_moment(latency_ms: int) -> None:
    frames, latency = drive(0, 12), latency_ms * 1_000_000
    metrics, stream = StreamingMetrics(2), Stream()
    for time, labels, mask, truth in frames:
        stream.add(metrics, time, latency, labels, mask, truth)

    # When each computation begins and ends: whoever is free takes the newest frame.
    done: list[tuple[int, int]] = []  # end, frame
    free = 0
    while True:
        after = done[-1][1] if done else -1
        come = [i for i, frame in enumerate(frames) if i > after and frame[0] <= free]
        later = [i for i in range(len(frames)) if i > after and frames[i][0] > free]
        if not come and not later:
            break
        chosen = come[-1] if come else later[0]
        free = max(free, frames[chosen][0]) + latency
        done.append((free, chosen))
        free += latency == 0
    segmentation, operating, ages, early = SegmentationMetrics(2), OperatingPoint(), [], 0
    for time, _, _, truth in frames:
        if truth is None:
            continue
        ready = [frame for end, frame in done if end <= time]
        if not ready:
            early += 1
            continue
        segmentation.update(frames[ready[-1]][1], truth)
        operating.update(frames[ready[-1]][2], truth)
        ages.append((time - frames[ready[-1]][0]) / 1e6)

    found = metrics.result()
    assert (found.frames, found.too_early) == (len(ages), early)
    assert found.miou == segmentation.result().miou
    assert found.operating == operating.result()
    assert found.age_ms == (pytest.approx(np.mean(ages)) if ages else None)
    assert StreamingMetrics.from_bytes(metrics.to_bytes()).result() == found


def components(mask: np.ndarray) -> list[np.ndarray]:
    count, numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [numbers == number for number in range(1, count)]


def test_flicker_is_what_changes_where_the_truth_does_not() -> None:
    frames = drive(1, 12)
    counts, steadiness = TemporalCounts(), Steadiness()
    for frame in frames:
        steadiness.add(counts, *frame, *regions(*frame[2:]))

    changed, known, mask_changed, same, appeared, vanished = 0, 0, 0, 0, 0, 0
    span = 0
    for (t0, labels0, mask0, truth0), (t1, labels1, mask1, truth1) in zip(
        frames, frames[1:], strict=False
    ):
        if t1 - t0 > SECOND:
            continue
        span += t1 - t0
        appeared += sum(not (part & (mask0 != 0)).any() for part in components(mask1))
        vanished += sum(not (part & (mask1 != 0)).any() for part in components(mask0))
        if truth0 is None or truth1 is None:
            continue
        for place in np.ndindex(*truth1.shape):
            if truth0[place] != truth1[place] or truth1[place] == VOID:
                continue
            same += 1
            mask_changed += mask0[place] != mask1[place]
            if truth1[place] != NOVEL:
                known += 1
                changed += labels0[place] != labels1[place]

    found = counts.result()
    assert found.label_flicker == changed / known
    assert found.mask_flicker == mask_changed / same
    assert found.appeared == pytest.approx(appeared * 60 / (span / 1e9))
    assert found.vanished == pytest.approx(vanished * 60 / (span / 1e9))
    assert TemporalCounts.from_bytes(counts.to_bytes()).result() == found


def test_without_truth_changes_are_still_counted() -> None:
    counts, steadiness = TemporalCounts(), Steadiness()
    for time, labels, mask, _ in drive(2, 3):
        steadiness.add(counts, time, labels, mask, None, *regions(mask, None))
    found = counts.result()
    assert found.label_change is not None and found.appeared is not None
    assert (found.label_flicker, found.true_appeared) == (None, None)


def scene(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    picture = np.zeros((40, 80), bool)
    for left, top, width, height in boxes:
        picture[top : top + height, left : left + width] = True
    return picture


def watch(
    log: ObjectLog, metrics: ObjectMetrics, time: int, mask: np.ndarray, truth: np.ndarray
) -> None:
    found, objects = regions(mask, truth)
    assert objects is not None
    log.add(metrics, time, mask.astype(np.uint8), truth, found, objects)


@pytest.mark.parametrize('least', [1, 3])
def test_regions_are_the_components_of_a_mask(least: int) -> None:
    mask = np.random.default_rng(3).random((12, 14)) < 0.3
    other = np.random.default_rng(4).random(mask.shape) < 0.5
    expected = [part for part in components(mask) if part.sum() >= least]
    found = regions_of(mask, least)
    assert found.sizes.tolist() == [part.sum() for part in expected]
    assert found.count(other).tolist() == [(part & other).sum() for part in expected]
    for number, part in enumerate(expected):
        assert found.places[found.numbers == number].tolist() == np.flatnonzero(part).tolist()
        rows, columns = np.nonzero(part)
        size = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert found.boxes[number].tolist() == [columns.min(), rows.min(), *size]


def test_an_object_counts_once_and_is_found_when_it_is_first_covered() -> None:
    log, metrics = ObjectLog(Ground(focal=40.0, horizon=10.0, height=1.5)), ObjectMetrics()
    # One object drives by and is covered from its third frame on; another never is. A false
    # alarm stays where it is, a second one comes later.
    for i in range(6):
        passing = (4 + 5 * i, 12, 6, 4 + i)
        truth = np.where(scene(passing, (70, 30, 3, 3)), NOVEL, 0).astype(np.uint8)
        marked = (
            [(60, 5, 4, 4)] + ([passing] if i >= 2 else []) + ([(2, 35, 3, 3)] if i > 3 else [])
        )
        watch(log, metrics, i * SECOND // 5, scene(*marked), truth)

    found = metrics.result()
    assert (found.objects, found.found, found.false_objects) == (2, 1, 2)
    assert found.delay_median == found.delay_mean == 0.4
    # At its third frame its lowest row is 12 + 6 - 1; its lower edge, 17.5, is 7.5 below the
    # horizon.
    assert found.distance_median == pytest.approx(40 * 1.5 / 7.5)
    assert found.found_per_minute == 60 and found.false_per_minute == 120
    assert ObjectMetrics.from_bytes(metrics.to_bytes()).result() == found


@pytest.mark.parametrize(('covered', 'found'), [(4, 0), (5, 1)])
def test_an_object_is_found_where_a_quarter_is_covered(covered: int, found: int) -> None:
    log, metrics = ObjectLog(), ObjectMetrics()
    truth = np.where(scene((10, 10, 20, 1)), NOVEL, 0).astype(np.uint8)
    watch(log, metrics, 0, scene((10, 10, covered, 1)), truth)
    assert metrics.result().found == found
    assert metrics.result().false_objects == 0


def test_what_comes_back_after_a_second_is_another_object() -> None:
    truth = np.where(scene((10, 10, 5, 5)), NOVEL, 0).astype(np.uint8)
    for pause, objects in ((SECOND, 1), (SECOND + 1, 2)):
        log, metrics = ObjectLog(), ObjectMetrics()
        for time in (0, pause):
            watch(log, metrics, time, np.zeros_like(truth), truth)
        assert metrics.result().objects == objects
        assert metrics.result().delay_median is None


def test_void_is_no_false_alarm() -> None:
    log, metrics = ObjectLog(), ObjectMetrics()
    everything = np.full((40, 80), VOID, np.uint8)
    watch(log, metrics, 0, everything, everything)
    assert metrics.result().false_objects == 0

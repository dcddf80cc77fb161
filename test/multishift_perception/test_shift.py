# SPDX-License-Identifier: Apache-2.0
"""A box on the ground is semantic shift, another look is not; the other way round."""

from __future__ import annotations

import numpy as np
import pytest

from multishift_perception.classes import CITYSCAPES, SemanticClass
from multishift_perception.ground import anomalous_share, ground_table, on_ground
from multishift_perception.pipeline import FrameOutput
from multishift_perception.shift import Shift, ShiftMeter

ROAD, BUILDING, SKY = 0, 2, 10
HEIGHT, WIDTH = 40, 60
HORIZON = 20


def street() -> np.ndarray:
    """Sky, a house on the left, and road."""
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    labels[5:, :20] = BUILDING
    labels[HORIZON:] = ROAD
    return labels


def box(labels: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Return a mask of something; what it hides is labelled as a building."""
    mask = np.zeros(labels.shape, np.uint8)
    mask[rows, columns] = 255
    labels[rows, columns] = BUILDING
    return mask


def share(mask: np.ndarray, labels: np.ndarray) -> float | None:
    return anomalous_share(mask, labels, ground_table(CITYSCAPES))


def test_a_box_on_the_road_counts_as_ground_that_it_hides() -> None:
    labels = street()
    mask = box(labels, slice(24, 32), slice(30, 40))
    ground = HEIGHT - HORIZON
    assert share(mask, labels) == pytest.approx(80 / (ground * WIDTH))


def test_what_rises_above_the_horizon_stands_on_the_road_too() -> None:
    labels = street()
    mask = box(labels, slice(10, 30), slice(30, 31))
    found = on_ground(mask, labels, ground_table(CITYSCAPES))
    assert found.sum() == 20


@pytest.mark.parametrize('anomalous', [0.0, 0.1, 0.7, 1.0])
def test_what_stands_on_the_ground_is_found_by_looking_down_each_column(anomalous: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([ROAD, BUILDING, SKY], np.uint8), (HEIGHT, WIDTH))
    mask = 255 * (rng.random(labels.shape) < anomalous).astype(np.uint8)
    expected = np.zeros(labels.shape, bool)
    for row, column in zip(*mask.nonzero(), strict=True):
        below = row
        while below < HEIGHT and mask[below, column] and labels[below, column] != ROAD:
            below += 1
        expected[row, column] = below == HEIGHT or labels[below, column] == ROAD
    assert np.array_equal(on_ground(mask, labels, ground_table(CITYSCAPES)), expected)


@pytest.mark.parametrize(
    ('rows', 'columns'), [(slice(6, 15), slice(0, 10)), (slice(0, 8), slice(30, 50))]
)
def test_what_hangs_on_a_house_or_in_the_sky_is_not_on_the_ground(
    rows: slice, columns: slice
) -> None:
    labels = street()
    assert share(box(labels, rows, columns), labels) == 0


def test_what_the_lower_border_cuts_off_stands_on_the_ground() -> None:
    labels = street()
    assert share(box(labels, slice(30, 40), slice(0, 60)), labels) == pytest.approx(0.5)


def test_nothing_anomalous_is_nothing() -> None:
    assert share(np.zeros((HEIGHT, WIDTH), np.uint8), street()) == 0


def test_without_classes_of_ground_nothing_is_told() -> None:
    table = ground_table([SemanticClass('sky', (0, 0, 0))])
    assert anomalous_share(np.ones((2, 2), np.uint8), np.zeros((2, 2), np.uint8), table) is None


def test_large_outputs_are_thinned_out() -> None:
    labels = street()
    mask = box(labels, slice(24, 32), slice(30, 40))
    large = [np.kron(x, np.ones((40, 40), np.uint8)) for x in (mask, labels)]
    assert share(*large) == pytest.approx(share(mask, labels), rel=0.05)


def test_regions_below_the_least_area_of_the_frame_do_not_count() -> None:
    labels = street()
    mask = box(labels, slice(24, 28), slice(30, 40))
    # The frame has four pixels for one of the engine.
    output = FrameOutput(
        labels, mask, mask.astype(np.float32), (2 * HEIGHT, 2 * WIDTH), covariate_shift=0.7
    )
    meter = ShiftMeter(CITYSCAPES)
    shift = meter.measure(output, 0.5)
    assert shift == pytest.approx((0.7, 40 / (20 * WIDTH)))
    assert meter.measure(output, 0.5, min_area=160) == shift
    assert meter.measure(output, 0.5, min_area=164) == Shift(0.7, 0.0)

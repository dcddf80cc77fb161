# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from multishift_perception.calibration.knots import move_operating_point
from multishift_perception.engine import Calibration

CURVE = Calibration(
    knots=[(-20, 0), (-12, 60), (-4, 128), (0, 150), (4, 220), (16, 255)],
    operating_point=-4,
    rule='95% of novel pixels',
    dataset='some',
)


def moved(point: float) -> Calibration:
    return move_operating_point(CURVE, point, rule='rule', dataset='footage')


@pytest.mark.parametrize('point', [-100, -20, -15.3, -4, 0.1, 15.9, 16, 300])
def test_the_point_is_128_and_order_is_kept(point: float) -> None:
    curve = moved(point)
    assert (
        curve.anomaly(np.array([np.nextafter(np.float32(point), np.float32(np.inf))], np.float32))
        >= 128
    )
    assert curve.anomaly(np.array([np.float32(point) - 0.01], np.float32)) <= 127
    assert curve.operating_point == point
    assert (curve.rule, curve.dataset) == ('rule', 'footage')
    ends = curve.knots[0][0], curve.knots[-1][0]
    scores = np.concatenate([np.linspace(ends[0], point, 2000), np.linspace(point, ends[1], 2000)])
    levels = curve.anomaly(scores.astype(np.float32))
    assert (np.diff(levels.astype(int)) >= 0).all()
    # No step is lost of either side.
    assert set(levels.tolist()) == set(range(256))


@pytest.mark.parametrize('point', [-12, -4, 6])
def test_ends_stay_and_ways_between_keep_their_shares(point: float) -> None:
    curve = moved(point)
    assert curve.knots[0] == (-20, 0)
    assert curve.knots[-1] == (16, 255)
    # From the point a fifth of the way to the end.
    assert curve.anomaly(np.array([point + (16 - point) / 5], np.float32)) == 150


def test_an_end_that_is_near_gives_way() -> None:
    assert moved(15.9).knots[-1][0] == pytest.approx(15.9 + 20 / 4)
    assert moved(300).knots[0] == (-20, 0)
    assert moved(-300).knots[0][0] == pytest.approx(-300 - 16 / 4)


def test_moving_nowhere_changes_nothing() -> None:
    assert moved(-4).knots == CURVE.knots

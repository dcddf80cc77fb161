# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest

from multishift_perception.calibration.shares import FrameShares
from multishift_perception.engine import Calibration

SIZE = 60, 80


def street(frames: int, seed: int = 0) -> NDArray[np.float32]:
    """Return scores of ordinary frames: some have many more false alarms than others."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(0, 0.35, (frames, 1, 1))
    return (rng.normal(0, 1, (frames, *SIZE)) + shift).astype(np.float32)


def with_anomalies(scores: NDArray[np.float32], share: float, seed: int) -> NDArray[np.float32]:
    """Put a patch of a fifth of each side, above all other scores, on a share of the frames."""
    rng = np.random.default_rng(seed)
    scores = scores.copy()
    for frame in rng.choice(len(scores), round(share * len(scores)), replace=False):
        row, column = (int(rng.integers(side * 4 // 5)) for side in SIZE)
        scores[frame, row : row + SIZE[0] // 5, column : column + SIZE[1] // 5] = 10
    return scores


def shares_of(scores: NDArray[np.float32]) -> FrameShares:
    shares = FrameShares()
    for score in scores:
        shares.add(score)
    return shares


@pytest.mark.parametrize('share', [0.003, 0.01, 0.03, 0.2])
def test_without_anomalies_it_is_the_pooled_share(share: float) -> None:
    scores = street(200)
    point = shares_of(scores).threshold(share)
    assert (scores >= point).mean() == pytest.approx(share, rel=0.15)


@pytest.mark.parametrize('share', [0.01, 0.03])
def test_anomalies_in_a_tenth_of_the_frames_do_little(share: float) -> None:
    ordinary = street(200)
    footage = with_anomalies(ordinary, 0.1, 1)
    point = shares_of(footage).threshold(share)
    assert share / 1.5 <= (ordinary >= point).mean() <= share * 1.5
    # 0.4 % of the pixels: the plain quantile loses that much of what was asked for.
    pooled = np.quantile(footage, 1 - share)
    assert (ordinary >= pooled).mean() < (ordinary >= point).mean()


def test_where_a_share_is_smaller_than_the_anomalies() -> None:
    ordinary = street(400)
    footage = with_anomalies(ordinary, 0.1, 1)
    assert (ordinary >= np.quantile(footage, 1 - 0.003)).mean() == 0
    point = shares_of(footage).threshold(0.003)
    assert 0.003 / 2 <= (ordinary >= point).mean() <= 0.003


def test_frames_of_any_size_count_alike() -> None:
    shares = FrameShares()
    shares.add(np.zeros((10, 10), np.float32))
    shares.add(np.ones((100, 100), np.float32))
    assert shares.of_frames(0.5).tolist() == [0, 1]
    assert (len(shares), shares.pixels) == (2, 10100)


def test_distribution_is_that_of_the_pixels() -> None:
    scores = street(50)
    calibration = Calibration(
        knots=[(-4, 0), (0, 128), (4, 255)], operating_point=0, rule='', dataset=''
    )
    expected = np.bincount(calibration.anomaly(scores).ravel(), minlength=256) / scores.size
    found = shares_of(scores).distribution(calibration)
    assert found.sum() == pytest.approx(1)
    assert np.cumsum(found) == pytest.approx(np.cumsum(expected), abs=0.01)
    # From above, by parts of what is left.
    rest, expected_rest = np.cumsum(found[::-1]), np.cumsum(expected[::-1])
    seen = expected_rest > 1e-3
    assert rest[seen] == pytest.approx(expected_rest[seen], rel=0.03)

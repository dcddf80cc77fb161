# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from multishift_training.export.calibration import fit_calibration
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import IMAGENET


def scores(center: float, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(center, 2, count).astype(np.float32)


class ScoreIsInput(SegmentationModel):
    """Puts out given scores whatever the frames."""

    input_scale = IMAGENET

    def __init__(self, score: np.ndarray) -> None:
        super().__init__()
        self.score = torch.from_numpy(score)

    def forward(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> Prediction:
        return Prediction(image[:, :2], self.score, image)


def calibrated(calibration, values: list[float]) -> list[int]:
    """Run scores through the deploy graph."""
    score = np.array(values, np.float32).reshape(1, 1, -1)
    frames = torch.zeros(1, 1, len(values), 3, dtype=torch.uint8)
    return DeployGraph(ScoreIsInput(score), calibration)(frames)[2].flatten().tolist()


def test_operating_point_reaches_95_percent_of_novel_pixels() -> None:
    novel = scores(9, 20000, 1)
    calibration = fit_calibration(scores(0, 50000, 0), novel, dataset='made up')
    assert np.mean(novel >= calibration.operating_point) == pytest.approx(0.95, abs=1e-3)
    assert calibration.rule == 'score that 95% of novel pixels reach'
    anomaly = calibrated(calibration, novel[:2000].tolist())
    assert np.mean(np.array(anomaly) >= 128) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(('center', 'found'), [(4, 0.477), (-30, 0)])
def test_no_more_than_2_percent_of_known_pixels_reach_it(center: float, found: float) -> None:
    known, novel = scores(0, 50000, 0), scores(center, 20000, 1)
    calibration = fit_calibration(known, novel, dataset='made up')
    assert np.mean(known >= calibration.operating_point) == pytest.approx(0.02, abs=1e-3)
    assert np.mean(novel >= calibration.operating_point) == pytest.approx(found, abs=0.02)
    assert calibration.rule.startswith('score that 2% of known pixels reach (')
    anomaly = calibrated(calibration, known[:5000].tolist())
    assert np.mean(np.array(anomaly) >= 128) == pytest.approx(0.02, abs=0.01)


def test_without_novel_pixels_the_false_positive_rate_rules() -> None:
    known = scores(0, 50000, 0)
    calibration = fit_calibration(known, np.zeros(0, np.float32), dataset='made up')
    assert np.mean(known >= calibration.operating_point) == pytest.approx(0.05, abs=1e-3)
    assert 'no novel pixels' in calibration.rule


def test_scale_is_monotone_and_uses_its_range() -> None:
    known, novel = scores(0, 50000, 0), scores(5, 20000, 1)
    calibration = fit_calibration(known, novel, dataset='made up')
    values = np.linspace(-20, 20, 801).tolist()
    anomaly = calibrated(calibration, values)
    assert anomaly[0] == 0
    assert anomaly[-1] == 255
    assert anomaly == sorted(anomaly)
    point = calibration.operating_point
    assert calibrated(calibration, [point - 0.01, point, point + 0.01]) == [127, 128, 128]


@pytest.mark.parametrize(
    ('center', 'spread'),
    [(-0.05, 1e-5), (0.0, 0.01), (0.0, 2.0), (5e4, 3e3), (5e4, 0.1)],
    ids=['narrow', 'softmax', 'energy', 'mahalanobis', 'hardly more than rounding'],
)
def test_scores_of_any_scale_use_the_range(center: float, spread: float) -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(center, spread, 50000).astype(np.float32)
    novel = rng.normal(center + 5 * spread, spread, 20000).astype(np.float32)
    calibration = fit_calibration(known, novel, dataset='made up')
    # Engines compute in float32: neighbours that are one there would divide by nothing.
    assert (np.diff(np.array([score for score, _ in calibration.knots], np.float32)) > 0).all()
    point = calibration.operating_point
    values = [
        *np.quantile(known, [0, 0.25, 0.5]),
        point,
        *np.quantile(novel, [0.25, 0.5, 0.75, 1]),
    ]
    anomaly = calibrated(calibration, values)
    assert anomaly[0] < 8 and anomaly[3] == 128 and anomaly[-1] > 247
    assert all(low + 10 < high for low, high in zip(anomaly, anomaly[1:], strict=False))


def test_separated_scores() -> None:
    """Nothing between known and novel, and all equal: still a valid, increasing map."""
    known, novel = np.full(100, -3, np.float32), np.full(100, 7, np.float32)
    calibration = fit_calibration(known, novel, dataset='made up')
    assert calibrated(calibration, [-3, 6.9, 7, 9]) == [0, 126, 128, 255]


def test_nothing_known() -> None:
    with pytest.raises(ValueError, match='known pixels'):
        fit_calibration(np.zeros(0, np.float32), scores(0, 5, 0), dataset='made up')

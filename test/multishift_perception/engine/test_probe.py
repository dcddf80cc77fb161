# SPDX-License-Identifier: Apache-2.0
"""How far the confidence of an artifact may be from the eager model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multishift_perception.arrays import Bytes
from multishift_perception.engine.manifest import Calibration
from multishift_perception.engine.probe import BOUNDS, ProbeSet
from multishift_perception.engine.types import EngineOutput
from multishift_perception.errors import MultishiftError

CALIBRATION = Calibration(
    knots=[(0.0, 0.0), (1.0, 255.0)], operating_point=0.5, rule='made up', dataset='none'
)
RNG = np.random.default_rng(0)
SHAPE = 1, 64, 64
# Sure of most pixels, as networks are: 97 % on average.
SURE = np.where(RNG.random(SHAPE) < 0.1, RNG.integers(60, 255, SHAPE), 255).astype(np.uint8)


class Telling:
    """A backend that is right but for the confidence."""

    def __init__(self, confidence: Bytes) -> None:
        self.output = EngineOutput(
            label=np.zeros(SHAPE, np.uint8),
            score=np.zeros(SHAPE, np.float32),
            anomaly=np.zeros(SHAPE, np.uint8),
            confidence=confidence,
        )

    def run(self, frames: Bytes) -> EngineOutput:
        return self.output

    def close(self) -> None:
        pass


def refusal(expected: Bytes, told: Bytes, precision: str) -> str:
    """Return why an artifact is refused that tells other confidences; empty if it is not."""
    frames = np.zeros((1, *SHAPE, 3), np.uint8)
    probe = ProbeSet.of(frames, [Telling(expected).output])
    try:
        probe.prove(Telling(told), CALIBRATION, Path('x'), precision, [1])
    except MultishiftError as error:
        return str(error)
    return ''


@pytest.mark.parametrize('precision', BOUNDS)
@pytest.mark.parametrize('constant', [255, int(SURE.mean()), int(np.median(SURE)), 0])
def test_no_constant_passes_for_a_confidence(precision: str, constant: int) -> None:
    said = refusal(SURE, np.full_like(SURE, constant), precision)
    assert 'the confidence on the probe frames differs by' in said and '\n' not in said


@pytest.mark.parametrize(
    ('share', 'accepting'), [(0.05, list(BOUNDS)), (0.2, ['int8', 'fp8']), (0.4, [])]
)
def test_the_bound_is_that_of_the_precision_and_not_that_of_labels(
    share: float, accepting: list[str]
) -> None:
    median = np.median(SURE)
    nearer = np.round(SURE + share * (median - SURE)).astype(np.uint8)
    assert [name for name in BOUNDS if not refusal(SURE, nearer, name)] == accepting
    # That of labels, a share of all pixels, would have let all of these pass.
    assert np.abs(SURE.astype(int) - nearer).mean() / 255 < 1 - BOUNDS['int8'].label_agreement


def test_what_hardly_varies_may_be_off_by_a_step_as_it_is_rounded() -> None:
    level = np.full(SHAPE, 100, np.uint8)
    assert refusal(level, level + 1, 'fp32') == ''
    assert 'differs by 2.00 of 255 on average (at most 1.00)' in refusal(level, level + 2, 'fp32')

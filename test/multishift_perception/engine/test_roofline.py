# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from multishift_perception.engine import EMBEDDED_BUNDLE
from multishift_perception.engine.manifest import read_manifest
from multishift_perception.engine.probe import BOUNDS
from multishift_perception.engine.roofline import Peak, Work, peak_of, work_of


def test_work_of_the_embedded_engine() -> None:
    manifest = read_manifest(EMBEDDED_BUNDLE)
    shape = manifest.input
    work = work_of(EMBEDDED_BUNDLE / 'torch.pt2', shape)
    # Its archive holds little else than the weights, in float32.
    size = (EMBEDDED_BUNDLE / 'torch.pt2').stat().st_size
    assert 0.8 * size < work.bytes_moved('fp32') - work.frame_bytes < size
    assert work.frame_bytes == shape.height * shape.width * 9
    # Every weight of a convolution is used at least once per output pixel of the coarsest map.
    assert work.flops > 2 * work.weights * (shape.height // 32) * (shape.width // 32) / 2


@pytest.mark.parametrize(
    ('flops', 'weights', 'seconds'),
    [(10**12, 0, 0.1), (0, 500, 1e-9), (10**12, 10**12, 2.0)],
    ids=['arithmetic', 'memory', 'both'],
)
def test_least_time_is_the_larger(flops: int, weights: int, seconds: float) -> None:
    peak = Peak({'fp16': 10.0}, memory=1.0)
    assert peak.seconds(Work(flops, weights, 0), 'fp16') == pytest.approx(seconds)


def test_known_and_unknown_gpus() -> None:
    known = peak_of('NVIDIA H200')
    assert known is not None
    assert set(known.tflops) == set(BOUNDS)
    assert peak_of('NVIDIA Unheard-of') is None

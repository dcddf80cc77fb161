# SPDX-License-Identifier: Apache-2.0
"""The engine that ships inside the package is small, whole and useful."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from multishift_perception.arrays import Bytes
from multishift_perception.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.metrics import AnomalyMetrics, SegmentationMetrics
from multishift_perception.pipeline import Pipeline
from multishift_perception.sample_drive import Drive, cutout, random_frame
from multishift_perception.shift import Shift, ShiftMeter


@pytest.fixture(scope='module')
def engine():
    with Engine.load(None) as engine:
        yield engine


def test_fits_in_20_megabytes() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED_BUNDLE.iterdir()) <= 20e6


@pytest.mark.parametrize('backend', ['openvino', 'torch'])
def test_every_artifact_passes_its_probe(backend: str) -> None:
    with Engine.load(None, backend=backend) as engine:
        assert engine.backend == backend


@pytest.mark.slow
def test_compiles_without_avx512(older_cpu: Callable[..., None]) -> None:
    older_cpu(None)


def test_says_where_it_comes_from(engine: Engine) -> None:
    provenance = engine.manifest.provenance
    kinds = [images['kind'] for images in provenance['configuration']['data']['images']]
    assert kinds == ['sample_drive', 'sample_drive', 'lums_road']
    assert len(provenance['credits']) == 3
    assert 'multishift train' in provenance['command']
    assert engine.manifest.model == 'deeplabv3plus_efficientnet_lite0'
    assert len(engine.classes) == 19


@pytest.mark.slow
def test_is_useful_on_the_demo_drive(engine: Engine) -> None:
    """Bounds well below what it reaches over the whole drive (docs/benchmarks.md)."""
    drive = Drive(7, split='demo', seconds=48.0)
    pipeline = Pipeline(engine)
    day, anomaly = SegmentationMetrics(19), AnomalyMetrics()
    for t in np.arange(0.5, 48, 2.0):
        frame = drive.render('front', float(t))
        (output,) = pipeline.run([frame.image])
        anomaly.update(output.score, frame.labels)
        if frame.condition == 'day':
            day.update(output.labels, frame.labels)
    assert day.result().miou > 0.3
    assert anomaly.result().ap > 0.15
    assert anomaly.result().auroc > 0.95


def with_box(image: Bytes, seed: int) -> Bytes:
    """Return a frame with a novel object on the road before the camera."""
    thing = cutout(np.random.default_rng(seed), split='demo', height=64)
    rows, columns, _ = thing.shape
    left = (image.shape[1] - columns) // 2
    part = np.s_[306 - rows : 306, left : left + columns]
    alpha = thing[..., 3:] / 255
    result = image.copy()
    result[part] = alpha * thing[..., :3] + (1 - alpha) * image[part]
    return result


@pytest.mark.slow
def test_fog_is_another_look_and_a_box_is_none(engine: Engine) -> None:
    """The same scenes by day, in fog, and by day with something on the road."""
    assert engine.look is not None
    pipeline, meter = Pipeline(engine), ShiftMeter(engine.classes)

    def measure(image: Bytes) -> Shift:
        return meter.measure(pipeline.run([image])[0], 0.5)

    day, fog, box = [], [], []
    for seed in range(9_000_000, 9_000_004):
        frame = random_frame(seed, split='demo', condition='day').image
        day.append(measure(frame))
        box.append(measure(with_box(frame, seed)))
        fog.append(measure(random_frame(seed, split='demo', condition='fog').image))
    (look, ground), (look_in_fog, ground_in_fog), (look_with_box, ground_with_box) = (
        np.median(shifts, axis=0) for shifts in (day, fog, box)
    )
    assert look_in_fog > 1.5 * look
    assert look_with_box < 1.2 * look
    assert ground_with_box > ground + 0.005
    assert ground_in_fog < ground + 0.005

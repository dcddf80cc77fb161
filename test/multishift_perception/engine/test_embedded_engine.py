# SPDX-License-Identifier: Apache-2.0
"""The engine that ships inside the package is small, whole and useful."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from multishift_perception.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.metrics import AnomalyMetrics, SegmentationMetrics
from multishift_perception.pipeline import Pipeline
from multishift_perception.sample_drive import Drive


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

# SPDX-License-Identifier: Apache-2.0
"""Pictures that an engine shrinks on its GPU, with fakes at the edge: the bytes of the CPU's path.

Where there is a GPU, the same is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from multishift_perception.arrays import Bytes, as_bytes
from multishift_perception.calibration.bundle import write_calibrated
from multishift_perception.engine import (
    Calibration,
    Engine,
    Part,
    PictureCall,
    cuda_slot,
    read_manifest,
)
from multishift_perception.engine.stages import measure_stages
from multishift_perception.images.picture import Picture
from multishift_perception.pipeline import FrameOutput, OutputSize, Pipeline

BGR = cv2.COLOR_BGR2RGB
PARTS: tuple[Part, ...] = ('labels', 'anomaly', 'score', 'engine_labels', 'confidence')


def only(*parts: Part) -> frozenset[Part]:
    return frozenset(parts)


def picture(
    height: int, width: int, conversion: int | None = BGR, *, seed: int = 0, padding: int = 0
) -> Picture:
    """Return a picture of random blotches, whose rows may end with bytes that are no pixels."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (height, width + padding, 3), np.uint8)
    return Picture(as_bytes(cv2.GaussianBlur(rows, (5, 5), 0))[:, :width], conversion)


class ByCpu:
    """An engine whose pictures are shrunk, and outputs enlarged, on the CPU."""

    takes_pictures = False

    def __init__(self, engine: Engine) -> None:
        self.input_shape = engine.input_shape
        self.call_size = engine.call_size
        self.infer = engine.infer
        self.look = engine.look
        self.run_pictures = engine.run_pictures


@pytest.fixture(params=['fake', pytest.param('cuda', marks=pytest.mark.gpu)])
def on_gpu(request: pytest.FixtureRequest, tiny_bundle: Path) -> Iterator[Engine]:
    if request.param == 'fake':
        yield request.getfixturevalue('load_on_gpu')(tiny_bundle)
        return
    with Engine.load(tiny_bundle, backend='torch') as engine:
        yield engine


@pytest.fixture
def faked(load_on_gpu: Callable[[Path], Engine], tiny_bundle: Path) -> Engine:
    return load_on_gpu(tiny_bundle)


def assert_same(found: list[FrameOutput], wanted: list[FrameOutput]) -> None:
    for there, here in zip(found, wanted, strict=True):
        assert there.size == here.size
        for part in PARTS:
            ours, theirs = getattr(there, part), getattr(here, part)
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs), part


@pytest.mark.parametrize('output_size', ['camera', 'engine'])
def test_gives_what_the_cpu_gives(on_gpu: Engine, output_size: OutputSize) -> None:
    pictures: list[Picture | Bytes] = [
        picture(64, 96),  # as the engine takes it
        picture(128, 192, None),  # halved
        picture(108, 172, padding=4),  # interpolated at twice the size, halved
        picture(150, 250, None),  # areas
        picture(37, 51),  # grows
        Picture(picture(64, 90).pixels, cv2.COLOR_RGB2BGR),  # converted first
        picture(90, 130, None).pixels,  # a plain image
        picture(64, 96, seed=1),  # another of a size that came before
    ]
    found = Pipeline(on_gpu, output_size=output_size).run(pictures)
    assert_same(found, Pipeline(ByCpu(on_gpu), output_size=output_size).run(pictures))


def test_frames_of_a_call_have_each_their_own_size(
    load_on_gpu: Callable[[Path], Engine], tiny_bundle_of_two: Path
) -> None:
    engine = load_on_gpu(tiny_bundle_of_two)
    pictures = [picture(64, 96), picture(90, 130, None), picture(37, 51)]  # one alone at last
    assert_same(Pipeline(engine).run(pictures), Pipeline(ByCpu(engine)).run(pictures))


def test_each_picture_goes_up_once_and_what_is_wanted_comes_down(faked: Engine, cuda: Any) -> None:
    runner = Pipeline(faked)
    wanted = [only('labels', 'anomaly')]
    runner.run([picture(128, 192)], wanted)
    cuda.log.clear()
    (output,) = runner.run([picture(128, 192, seed=1)], wanted)
    assert cuda.log == [
        ('upload', (128, 192, 3)),
        ('replay', ''),  # shrink
        ('replay', ''),  # the network
        ('replay', ''),  # enlarge the labels
        ('lock', (128, 192)),
        ('download', (128, 192)),
        ('replay', ''),  # enlarge the anomaly
        ('lock', (128, 192)),
        ('download', (128, 192)),
        ('wait', 'stream'),
    ]
    with pytest.raises(AttributeError, match='not asked of the pipeline'):
        _ = output.score


@pytest.mark.parametrize(
    ('wanted', 'down'),
    [
        (only(), []),
        (only('engine_labels'), [(64, 96)]),
        (only('anomaly'), [(128, 192)]),
        (only('engine_labels', 'score'), [(64, 96), (64, 96)]),
    ],
)
def test_only_what_is_wanted_comes_down(
    faked: Engine, cuda: Any, wanted: frozenset[Part], down: list[tuple[int, int]]
) -> None:
    cuda.log.clear()
    Pipeline(faked).run([picture(128, 192)], [wanted])
    assert [shape for word, shape in cuda.log if word == 'download'] == down


def test_labels_of_the_engine_s_size_come_down_once(faked: Engine, cuda: Any) -> None:
    cuda.log.clear()
    (output,) = Pipeline(faked).run([picture(64, 96)], [only('labels', 'engine_labels')])
    assert cuda.count('download') == 1
    assert np.array_equal(output.labels, output.engine_labels)


def test_outputs_belong_to_the_caller(on_gpu: Engine) -> None:
    runner = Pipeline(on_gpu)
    first, second = picture(90, 130), picture(90, 130, seed=1)
    (kept,) = runner.run([first])
    before = {part: getattr(kept, part).copy() for part in PARTS}
    (other,) = runner.run([second])
    assert not np.array_equal(other.anomaly, kept.anomaly)
    assert all(np.array_equal(getattr(kept, part), before[part]) for part in PARTS)


def test_few_sizes_are_remembered(faked: Engine, cuda: Any) -> None:
    runner = Pipeline(faked, output_size='engine')

    def captures(height: int) -> int:
        before = cuda.count('capture')
        runner.run([picture(height, 96)])
        return int(cuda.count('capture') - before)

    assert [captures(64 + i) for i in range(8)] == [1] * 8
    assert captures(64) == 0
    assert captures(72) == 1  # and forgets the one that was unused for longest
    assert (captures(64), captures(65)) == (0, 1)


def test_what_cannot_be_captured_runs_and_says_so(
    load_on_gpu: Callable[[Path], Engine],
    tiny_bundle: Path,
    cuda: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cuda.capture_error = RuntimeError('operation not permitted')
    engine = load_on_gpu(tiny_bundle)
    pictures = [picture(90, 130), picture(90, 130, seed=1)]
    assert_same(Pipeline(engine).run(pictures), Pipeline(ByCpu(engine)).run(pictures))
    assert cuda.count('replay') == 0
    for name in ('the network', 'what shrinks pictures', 'what enlarges outputs'):
        assert f'{name} runs without CUDA graph, slower: operation not permitted' in caplog.text


def test_call_that_fails_leaves_no_copy_under_way(
    faked: Engine, cuda: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, *_: object) -> None:
        raise torch.OutOfMemoryError('20 GiB needed')

    runner = Pipeline(faked)
    runner.run([picture(64, 96)])
    monkeypatch.setattr(cuda_slot, 'Recorded', full)
    with pytest.raises(torch.OutOfMemoryError):
        runner.run([picture(128, 192)], [only('labels')])
    assert cuda.log[-1] == ('wait', 'stream')
    assert len(runner.run([picture(64, 96)])) == 1


def test_stages_are_told_apart(faked: Engine) -> None:
    stages: dict[str, float] = {}
    call = PictureCall(picture(90, 130), (90, 130), only('labels', 'score'))
    faked.run_pictures([call], 1, stages)
    assert stages == pytest.approx(
        {'copy': 2e-3, 'upload': 2e-3, 'shrink': 2e-3, 'engine': 2e-3}
        | {'enlarge': 4e-3, 'read back': 4e-3}
    )


def test_bench_tells_the_same_stages(faked: Engine) -> None:
    stages = ['copy', 'upload', 'shrink', 'engine', 'enlarge', 'read back']
    assert list(measure_stages(faked, 1, calls=1)) == stages


def test_calibration_that_was_set_later_is_heeded(
    load_on_gpu: Callable[[Path], Engine], tiny_bundle: Path, tmp_path: Path, cuda: Any
) -> None:
    calibration = read_manifest(tiny_bundle).calibration
    steeper = calibration.model_copy(update={'knots': [(0.3, 0.0), (0.5, 128.0), (0.6, 255.0)]})
    write_calibrated(tiny_bundle, tmp_path / 'new', steeper, {})
    engine = load_on_gpu(tmp_path / 'new')
    cuda.log.clear()
    (output,) = Pipeline(engine, output_size='engine').run([picture(90, 130)])
    images = [shape for word, shape in cuda.log if word == 'download' and len(shape) == 2]
    assert images == [(64, 96)] * 4  # labels, anomaly, score, confidence
    assert np.array_equal(output.anomaly, steeper.anomaly(output.score))
    assert len(np.unique(output.anomaly)) > 50


def test_node_captures_what_a_camera_needs_before_it_comes(faked: Engine, cuda: Any) -> None:
    loaded_engine = pytest.importorskip('multishift_perception.node.loaded_engine')
    runner = Pipeline(faked)
    loaded_engine._warm_up(faked, runner)
    cuda.log.clear()
    runner.run([np.zeros((1080, 1920, 3), np.uint8)])
    assert cuda.count('capture') == 0


def test_log_says_where_pictures_are_shrunk(
    load_on_gpu: Callable[[Path], Engine], tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    load_on_gpu(tiny_bundle)
    Engine.load(tiny_bundle, backend='openvino').close()
    ways = [r.message.rpartition('; ')[2] for r in caplog.records if 'engine tiny' in r.message]
    assert ways == ['pictures are shrunk on cuda:0', 'pictures are shrunk on cpu']


@pytest.mark.parametrize(
    'knots',
    [
        [(-0.3, 0.0), (0.0, 128.0), (0.6, 255.0)],
        [(-40.0, 3.5), (-1e-3, 128.0), (2e-3, 128.0), (40.0, 250.2)],
    ],
)
def test_steps_of_a_calibration_are_its_anomaly(knots: list[tuple[float, float]]) -> None:
    made = Calibration(knots=knots, operating_point=0.0, rule='', dataset='')
    steps = made.steps()
    real = steps[np.isfinite(steps)]
    near = [np.nextafter(real, np.float32(end)) for end in (-np.inf, np.inf)]
    scores = np.concatenate([real, *near, np.linspace(-50, 50, 999, dtype=np.float32)])
    assert np.array_equal(np.searchsorted(steps, scores, side='right'), made.anomaly(scores))

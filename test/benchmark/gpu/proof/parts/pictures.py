# SPDX-License-Identifier: Apache-2.0
"""Pictures shrunk on the GPU: the bytes of the path over the CPU, and what each of them costs."""

from __future__ import annotations

import statistics
import time

import cv2
import numpy as np

from multishift_perception.engine import EMBEDDED_BUNDLE, Engine, Part, PictureCall
from multishift_perception.engine.cuda_runner import CudaRunner
from multishift_perception.engine.stages import CAMERA_SIZE, measure_stages
from multishift_perception.images.picture import Picture
from multishift_perception.pipeline import Pipeline
from proof.networks import Deployed
from proof.settings import Note, Settings

_WATCHED: frozenset[Part] = frozenset({'labels', 'anomaly'})
# As cameras have them: halved, interpolated and halved, averaged over areas, enlarged.
_SIZES = (CAMERA_SIZE, (1200, 1920), (720, 1280), (1079, 1919), (240, 320))


class ByCpu:
    """The same engine, whose pictures are shrunk, and outputs enlarged, on the CPU."""

    takes_pictures = False

    def __init__(self, engine: Engine) -> None:
        """Take what a pipeline asks of an engine."""
        self.input_shape = engine.input_shape
        self.call_size = engine.call_size
        self.infer = engine.infer
        self.look = engine.look
        self.run_pictures = engine.run_pictures


def run(settings: Settings, note: Note) -> None:
    """Compare, then measure."""
    with Engine.load(EMBEDDED_BUNDLE, backend='torch') as engine:
        note('pictures are shrunk on', engine.shrinks_on)
        assert engine.takes_pictures == settings.on_gpu, 'the engine leaves pictures to the CPU'
        on_gpu, on_cpu = Pipeline(engine), Pipeline(ByCpu(engine))
        for size in _SIZES if settings.on_gpu else _SIZES[-1:]:
            _compare(on_gpu, on_cpu, size)
        note('the same bytes as on the CPU', True)
        calls = 50 if settings.on_gpu else 1
        note('embedded engine, a picture of 1080p, ms', _ms(measure_stages(engine, 1, calls)))
        note(
            'pipeline, 1080p to labels and anomaly, ms',
            {'on the GPU': _cost(on_gpu, settings), 'on the CPU': _cost(on_cpu, settings)},
        )
    if settings.on_gpu:
        _measure_large(settings, note)


def _compare(on_gpu: Pipeline, on_cpu: Pipeline, size: tuple[int, int]) -> None:
    picture = _picture(size)
    (there,), (here,) = on_gpu.run([picture]), on_cpu.run([picture])
    for part in ('labels', 'anomaly', 'score'):
        same = np.array_equal(getattr(there, part), getattr(here, part))
        assert same, f'{part} of {size[1]} x {size[0]} differ from the path over the CPU'


def _cost(pipeline: Pipeline, settings: Settings) -> str:
    """Return what a picture takes, with what the CPU computes meanwhile, all threads."""
    picture = _picture(CAMERA_SIZE)

    def work() -> None:
        (output,) = pipeline.run([picture], [_WATCHED])
        _ = output.labels, output.anomaly

    begin = time.process_time()
    seconds = settings.seconds(work, runs=100, warm_up=0)
    cpu = 1e3 * (time.process_time() - begin) / len(seconds)
    return f'p50 {1e3 * statistics.median(seconds):.2f}, CPU {cpu:.2f}'


def _measure_large(settings: Settings, note: Note) -> None:
    """Tell the stages apart for calls of 1024 x 2048."""
    from multishift_training import models

    network = Deployed(models.create('deeplabv3plus_compact').eval(), 'fp16').to(settings.device)
    for batch in (1, 4):
        runner = CudaRunner(network, (batch, 1024, 2048, 3), settings.device)
        calls = [PictureCall(_picture(CAMERA_SIZE), CAMERA_SIZE, _WATCHED)] * batch
        found: list[dict[str, float]] = []
        while len(found) < 30 and settings.left > 2:
            found.append({})
            runner.run_pictures(calls, found[-1])
        stages = {s: statistics.median(f[s] for f in found[1:]) for s in found[0]}
        note(f'deeplabv3plus_compact 1024x2048 fp16, {batch} of 1080p, ms', _ms(stages))


def _picture(size: tuple[int, int]) -> Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return Picture(pixels, cv2.COLOR_BGR2RGB)


def _ms(stages: dict[str, float]) -> dict[str, float]:
    return {stage: 1e3 * seconds for stage, seconds in stages.items()}

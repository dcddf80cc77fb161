# SPDX-License-Identifier: Apache-2.0
"""Latency of every network: p50 and p99 by batch and precision, and the share of the roofline."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from itertools import product
import time

import numpy as np
import torch

from multishift_perception.engine.gpu import find_gpu
from multishift_perception.engine.roofline import Peak, peak_of
from multishift_training import models
from multishift_training.models import SegmentationModel
from proof.attempts import Attempts
from proof.networks import DTYPES, FOR_VEHICLES, NAMES, Deployed, runner, work
from proof.results import clocks
from proof.settings import Note, Settings

_SMALL = ('deeplabv3plus_compact', 'segformer_b0', 'mask2former_resnet50')
_SECONDS, _MOST = 0.8, 300  # of calls, and how many of them

Case = tuple[str, tuple[int, int], int, str]


def run(settings: Settings, note: Note) -> None:
    """Measure in order of value; what there is no time for is named."""
    torch.manual_seed(0)
    attempts = Attempts(note)
    peak = peak_of(find_gpu(0).name) if settings.on_gpu else None
    network, least = cache(models.create), cache(work)  # each is made once
    for case in (cases := list(_cases(settings))):
        name, size, batch, precision = case
        if settings.left < 3:
            remaining = cases[cases.index(case) :]
            note('no time for', ', '.join(_title(*left) for left in remaining))
            break
        made = partial(_row, settings, network, case)
        row = attempts.row(_title(*case), made)
        if row is not None and peak is not None:
            note(
                _title(*case),
                row | {'share of roofline': _share(peak, least(name, size), case, row)},
            )
    if settings.on_gpu:
        note('clocks just after', clocks())
    attempts.end()


def _cases(settings: Settings) -> Iterator[Case]:
    full, hd = ((1024, 2048), (1080, 1920)) if settings.on_gpu else ((64, 96), (96, 160))
    batches = (1, 4, 8) if settings.on_gpu else (1, 2)
    if not settings.on_gpu:  # one of each kind, and every precision once
        yield ('deeplabv3plus_compact', hd, 1, 'fp16')
        yield from ((name, full, 1, 'bf16') for name in _SMALL)
        yield ('deeplabv3plus_compact', full, 2, 'fp32')
        return
    for size in (full, hd):
        yield from ((n, size, b, p) for b, n, p in product(batches, FOR_VEHICLES, DTYPES))
    others = NAMES[len(FOR_VEHICLES) :]
    yield from ((n, full, b, p) for b, n, p in product(batches, others, DTYPES))


def _title(name: str, size: tuple[int, int], batch: int, precision: str) -> str:
    return f'{name} {size[0]}x{size[1]} batch {batch} {precision}'


def _row(settings: Settings, network: object, case: Case) -> dict[str, object]:
    name, size, batch, precision = case
    model: SegmentationModel = network(name)
    if model.training:
        model.eval().to(settings.device, memory_format=torch.channels_last)
    shape = (batch, *size, 3)
    call = runner(Deployed(_copy(model), precision).to(settings.device), shape, settings.device)
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    seconds = _calls(call, frames, settings)
    del call
    if settings.on_gpu:
        torch.cuda.empty_cache()
    p50, p99 = (float(np.percentile(seconds, share)) for share in (50, 99))
    row: dict[str, object] = {'calls': len(seconds), 'p50 ms': 1e3 * p50, 'p99 ms': 1e3 * p99}
    return row | {'frames/s': batch / p50}


def _copy(model: SegmentationModel) -> SegmentationModel:
    """Return a copy whose types may change."""
    import copy

    return copy.deepcopy(model)


def _calls(call: object, frames: np.ndarray, settings: Settings) -> list[float]:
    seconds: list[float] = []
    most = _MOST if settings.on_gpu else 2
    while len(seconds) < most and (len(seconds) < 10 or sum(seconds) < _SECONDS):
        start = time.perf_counter()
        call(frames)
        seconds.append(time.perf_counter() - start)
    return seconds


def _share(peak: Peak, one: object, case: Case, row: dict[str, object]) -> float:
    """Return what part of the time the device needs at least."""
    _, _, batch, precision = case
    least = one._replace(flops=batch * one.flops, frame_bytes=batch * one.frame_bytes)  # type: ignore[attr-defined]
    return peak.seconds(least, precision) / (float(row['p50 ms']) / 1e3)  # type: ignore[arg-type]

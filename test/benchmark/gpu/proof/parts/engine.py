# SPDX-License-Identifier: Apache-2.0
"""The `torch` backend on the GPU: its CUDA graph, its parity, its latency as it is shipped."""

from __future__ import annotations

from pathlib import Path
import shutil
import tempfile
from typing import Any

import numpy as np
import torch

from multishift_perception.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.engine.gpu import find_gpu
from multishift_perception.engine.manifest import read_manifest
from multishift_perception.engine.probe import ProbeSet
from multishift_perception.engine.roofline import peak_of, work_of
from multishift_perception.engine.timing import Candidate, measure
from multishift_perception.engine.verification import verify
from proof.settings import Note, Settings


def run(settings: Settings, note: Note) -> None:
    """Load, compare, verify, measure."""
    probe = ProbeSet.load(EMBEDDED_BUNDLE / 'probe.npz')
    with Engine.load(EMBEDDED_BUNDLE, backend='torch') as engine:
        assert engine.device.startswith(settings.device.type), f'it runs on {engine.device}'
        note('runs on', engine.device)
        running: Any = engine._running[engine.batches[-1]]
        runner = running._runners.get(engine.batches[-1])
        captured = runner is not None and runner._network.is_captured
        assert captured or not settings.on_gpu, 'the CUDA graph was not captured'
        note('CUDA graph', 'captured' if captured else 'no GPU')
        frames = probe.frames[0]
        first = engine.infer(frames)
        kept = [array.copy() for array in first]
        other = engine.infer(np.ascontiguousarray(frames[:, ::-1]))
        unchanged = all(np.array_equal(a, b) for a, b in zip(first, kept, strict=True))  # type: ignore[arg-type]
        assert unchanged, 'a later call wrote into earlier outputs'
        assert not np.array_equal(first.score, other.score), 'another frame gave the same outputs'
        note('outputs', "the caller's own, and new for each frame")
        note('largest difference of the score from eager', _difference(engine, frames, settings))
    _verify(note)
    _measure(settings, note)


def _difference(engine: Any, frames: np.ndarray, settings: Settings) -> float:
    """Return how far the graph's replay is from the same operations one by one."""
    given = torch.from_numpy(frames).to(settings.device)
    with torch.inference_mode():
        eager = engine._running[len(frames)]._module(given)[1].cpu().numpy()
    return float(np.abs(engine.infer(frames).score - eager).max())


def _verify(note: Note) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / 'bundle'
        shutil.copytree(EMBEDDED_BUNDLE, copy)
        for verdict in verify(copy):
            parity = verdict.proof and verdict.proof.parity
            words = f'{verdict.state} {verdict.device} {parity or verdict.reason}'
            note(f'engine verify, {verdict.artifact.file}', words)
            assert verdict.state != 'fault', words


def _measure(settings: Settings, note: Note) -> None:
    (timing,) = measure(
        [Candidate(EMBEDDED_BUNDLE, 'torch')], seconds=6 if settings.on_gpu else 0.2
    )
    manifest = read_manifest(EMBEDDED_BUNDLE)
    work = work_of(EMBEDDED_BUNDLE / 'torch.pt2', manifest.input)
    peak = peak_of(find_gpu(0).name) if settings.on_gpu else None
    note(
        f'latency as shipped, {manifest.input.height}x{manifest.input.width}',
        {
            'calls': len(timing.calls),
            'p50 ms': 1e3 * timing.percentile(50),
            'p99 ms': 1e3 * timing.percentile(99),
            'frames/s': timing.frames_per_second,
            'share of roofline': peak.seconds(work, 'fp32') / timing.percentile(50)
            if peak
            else 'unknown',
        },
    )

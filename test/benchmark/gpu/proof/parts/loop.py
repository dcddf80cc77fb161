# SPDX-License-Identifier: Apache-2.0
"""`multishift train` itself on the GPU: its steps wait for nothing, and a run goes on."""

from __future__ import annotations

from pathlib import Path
import tempfile
import time
from typing import Any

import torch

from multishift_training.loop import train as training
from multishift_training.loop.config import TrainConfig
from proof.settings import Note, Settings

_STAGE: dict[str, Any] = {
    'name': 'all',
    'trainable': ['*'],
    'method': {'kind': 'multishift', 'margins': [5, 5, 5], 'segmentation': [1, 1]},
    'optimizer': {'learning_rate': 1e-3},
    'clip_norm': 1.0,
}


def run(settings: Settings, note: Note) -> None:
    """Train a small network on the sample drive; then the same, stopped and gone on with."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for precision in ('bf16', 'fp32') if settings.on_gpu else ('fp32',):
            config = _config(settings, precision)
            steps = _train(config, folder / precision, settings)
            note(
                f'{precision}, median of a step', f'{1e3 * sorted(steps)[len(steps) // 2]:.2f} ms'
            )
        if settings.on_gpu:
            note('host waits in a step', 'never')
        _go_on(config, folder, note)


def _config(settings: Settings, precision: str) -> TrainConfig:
    size, frames, batch = ([288, 512], 64, 4) if settings.on_gpu else ([96, 160], 4, 2)
    images = {'kind': 'sample_drive', 'split': 'train', 'frames': frames, 'seed': 1, 'size': size}
    return TrainConfig.model_validate(
        {
            'model': 'deeplabv3plus_compact',
            'data': {
                'images': images,
                'partners': {**images, 'conditions': ['night']},
                'transforms': {'kind': 'zoom_crop', 'crop': [x // 32 * 28 for x in size]},
            },
            'val': {'images': {**images, 'split': 'val', 'frames': batch}},
            'engine_size': size,
            'batch_size': batch,
            'precision': precision,
            'monitor': 'miou',
            'workers': 4 if settings.on_gpu else 0,
            'stages': [{**_STAGE, 'epochs': 2 if settings.on_gpu else 1}],
        }
    )


def _train(config: TrainConfig, folder: Path, settings: Settings) -> list[float]:
    """Run to the end; return the seconds of each step but the first, in which memory is taken."""
    _share_frames(folder)
    seconds: list[float] = []
    take = training._Training._step

    def step(self: Any, *arguments: Any, **options: Any) -> None:
        settings.synchronize()
        start = time.perf_counter()
        if settings.on_gpu and len(seconds) > 1:
            torch.cuda.set_sync_debug_mode('error')
        try:
            take(self, *arguments, **options)
        finally:
            if settings.on_gpu:
                torch.cuda.set_sync_debug_mode('default')
        settings.synchronize()
        seconds.append(time.perf_counter() - start)

    training._Training._step = step  # type: ignore[method-assign]
    try:
        assert training.train(config, folder, root=Path()) is not None
    finally:
        training._Training._step = take  # type: ignore[method-assign]
    return seconds[1:]


def _share_frames(folder: Path) -> None:
    folder.mkdir()
    cache = folder.parent / 'cache'
    cache.mkdir(exist_ok=True)
    (folder / 'cache').symlink_to(cache)


def _go_on(config: TrainConfig, folder: Path, note: Note) -> None:
    """Stop a run after its first step, go on, and compare with the one that nothing stopped."""
    again = folder / 'again'
    _share_frames(again)
    assert training.train(config, again, root=Path(), seconds=0) is None
    assert training.train(config, again, root=Path()) is not None
    states = [
        torch.load(folder / name / 'last.pt', map_location='cpu', weights_only=True)['model']
        for name in ('fp32', 'again')
    ]
    differences = [
        float((states[0][key].double() - states[1][key].double()).abs().max()) for key in states[0]
    ]
    note('stopped and gone on with, largest difference of a weight', max(differences))
    note('... the same bit for bit', max(differences) == 0)

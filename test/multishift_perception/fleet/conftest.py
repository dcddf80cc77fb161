# SPDX-License-Identifier: Apache-2.0
"""Small bags with ground truth: red is road, blue is sky, white is novel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from multishift_perception import bags
from multishift_perception.classes import NOVEL

SIZE = (64, 96)
STEP = 200_000_000

Write = Callable[..., Path]


def write_drive(path: Path, *, seed: int, frames: int = 3) -> Path:
    """Write two noisy cameras, by day and then in fog, and a thing that engines may miss."""
    rng = np.random.default_rng(seed)
    with bags.BagWriter(path) as bag:
        for i in range(frames):
            for camera in ('front', 'left'):
                image = np.zeros((*SIZE, 3), np.uint8)
                image[:32], image[32:] = (0, 0, 200), (200, 0, 0)
                image[40:56, 4 * i : 30 + 4 * i] = 30 + 40 * (seed % 4)
                image = np.clip(image + rng.integers(0, 40, image.shape), 0, 255).astype(np.uint8)
                labels = np.zeros(SIZE, np.uint8)
                labels[:32] = 1
                labels[40:56, 4 * i : 30 + 4 * i] = NOVEL
                time = bags.EPOCH_NS + i * STEP
                bag.image(f'/{camera}/image_raw', time, f'{camera}_frame', image)
                bag.camera_info(
                    f'/{camera}/camera_info',
                    time,
                    f'{camera}_frame',
                    width=SIZE[1],
                    height=SIZE[0],
                    focal=(50.0, 50.0),
                    centre=(48.0, 32.0),
                )
                bag.image(f'/{camera}{bags.TRUTH_LABELS}', time, f'{camera}_frame', labels)
                condition = 'day' if i < frames - 1 else 'fog'
                bag.string(f'/{camera}{bags.TRUTH_CONDITION}', time, condition)
    return path


@pytest.fixture(scope='session')
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bags; tests must not change it."""
    folder = tmp_path_factory.mktemp('drives')
    for seed in range(4):
        write_drive(folder / f'{seed}.mcap', seed=seed)
    return folder


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pages of single bags empty, whose charts take longer than the bags."""
    monkeypatch.setattr('multishift_perception.report.drive_report.render', lambda report: '')

# SPDX-License-Identifier: Apache-2.0
"""A small training run that tests vary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
import pytest
import torch

from multishift_training.datasets import Samples, open_validation
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.train import train

Content = dict[str, Any]

CLOSED_WORLD = {
    'name': 'closed_world',
    'epochs': 2,
    'trainable': ['*'],
    'method': {'kind': 'closed_world', 'class_weights': True},
    'optimizer': {'learning_rate': 2e-3},
    'schedule': {'kind': 'cosine'},
}
UNCERTAINTY = {
    'name': 'uncertainty',
    'epochs': 1,
    'trainable': ['uncertainty'],
    'batch_norm': 'frozen',
    'init_uncertainty': True,
    'method': {'kind': 'multishift', 'margins': [10, 5, 5], 'segmentation': [0, 0]},
    'optimizer': {'name': 'adam', 'learning_rate': 1e-3},
}
FEATURES = {
    'name': 'features',
    'epochs': 1,
    'trainable': ['aspp', 'low', 'uncertainty'],
    'method': {'kind': 'multishift', 'margins': [10, 5, 5]},
    'optimizer': {'name': 'adam', 'learning_rate': 1e-4},
}


def _content(**changes: object) -> Content:
    frames = {'kind': 'sample_drive', 'size': [96, 160]}
    train = {**frames, 'split': 'train', 'frames': 8, 'seed': 1}
    return {
        'model': 'deeplabv3plus_compact',
        'data': {
            'images': train,
            'partners': {**train, 'conditions': ['night', 'rain']},
            'transforms': {'kind': 'zoom_crop', 'crop': [64, 96], 'zoom': [0.75, 1.4]},
        },
        'val': {'images': {**frames, 'split': 'val', 'frames': 4, 'seed': 100}},
        'engine_size': [96, 160],
        'batch_size': 4,
        'workers': 0,
        'loss_stride': 2,
        'monitor': 'miou+ap',
        'checkpoint_steps': 1,
        'stages': [CLOSED_WORLD, UNCERTAINTY, FEATURES],
        **changes,
    }


@pytest.fixture(scope='session')
def content() -> Callable[..., Content]:
    """Return a function that gives the configuration of a run of seconds, with changes."""
    return _content


@pytest.fixture(scope='session')
def train_in_parts() -> Callable[[TrainConfig, Path], int]:
    """Return what trains with the time over after every step, and says how often it was."""

    def run(config: TrainConfig, folder: Path) -> int:
        parts = 0
        while train(config, folder, root=Path(), seconds=0) is None:
            parts += 1
            assert parts < 20
        return parts

    return run


@pytest.fixture(scope='session')
def stages() -> dict[str, Content]:
    """The stages of that run, by name."""
    return {str(stage['name']): stage for stage in (CLOSED_WORLD, UNCERTAINTY, FEATURES)}


@pytest.fixture(scope='session')
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up data set of the kind ``lums_road`` that is part of a run: absolute path."""
    root = tmp_path_factory.mktemp('lums_road')
    rng = np.random.default_rng(0)
    for i in range(3):
        for folder, values in (('images', 256), ('labels', 5)):
            shape = (96, 160, 3) if folder == 'images' else (96, 160)
            (root / folder).mkdir(exist_ok=True)
            raw = rng.integers(0, values, shape, np.uint8)
            Image.fromarray(raw).save(root / folder / f'train_{i}.png')
    return root


@pytest.fixture(scope='session')
def two_domains(coarse: Path) -> Callable[..., Content]:
    """Return a function that gives the configuration of a run on two domains, with changes."""

    def make(**changes: object) -> Content:
        content = _content(**changes)
        data = content['data']
        drive = {**data['images'], 'domain': 'drive', 'partners': data['partners']}
        campus = {'kind': 'lums_road', 'root': str(coarse), 'domain': 'campus'}
        data |= {'images': [drive, campus], 'partners': {'kind': 'pasted_weather'}}
        data |= {'outliers': {'kind': 'sample_objects', 'split': 'train'}}
        return content

    return make


@pytest.fixture(scope='session')
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames of that run, rendered once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base) / 'frames'
    config = TrainConfig.model_validate(_content())
    Samples(config.data, root=Path(), cache=cache, seed=0)
    open_validation(config.val, root=Path(), cache=cache)
    return cache


@pytest.fixture(scope='session')
def new_folder(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return a function that makes the folder of a new run, which need not render its frames."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp('run')
        (folder / 'cache').symlink_to(rendered)
        return folder

    return make


@pytest.fixture
def folder(new_folder: Callable[[], Path]) -> Path:
    """The folder of a new run."""
    return new_folder()


@pytest.fixture(scope='session')
def one_thread() -> Iterator[None]:
    """For networks that are too small to share among threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

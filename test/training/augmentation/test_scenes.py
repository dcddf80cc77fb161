# SPDX-License-Identifier: Apache-2.0
"""The labelled images that a run starts from, and Cityscapes' own label ids beside them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest

from multishift_perception.classes import VOID
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import AugmentConfig
from multishift_training.augmentation.scenes import Scenes

Bytes = NDArray[np.uint8]
FRAMES = ('ulm_000001_000019', 'ulm_000002_000019')


def save(root: Path, frame: str, end: str, content: Bytes) -> None:
    folder = 'leftImg8bit' if end == 'leftImg8bit' else 'gtFine'
    path = root / 'cityscapes' / folder / 'train/ulm' / f'{frame}_{end}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(content).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two frames of road with a bridge, which is void; the first alone has label ids."""
    labels, ids = np.zeros((20, 30), np.uint8), np.full((20, 30), 7, np.uint8)
    labels[:10], ids[:10] = VOID, 15
    for frame in FRAMES:
        save(tmp_path, frame, 'leftImg8bit', np.zeros((20, 30, 3), np.uint8))
        save(tmp_path, frame, 'gtFine_labelTrainIds', labels)
    save(tmp_path, FRAMES[0], 'gtFine_labelIds', ids)
    return tmp_path


def scenes(data: Path, kind: str = 'controlnet', **changes: object) -> Scenes:
    generator = {'kind': kind}
    if kind == 'controlnet':
        generator |= {'base': 'base', 'controlnet': 'controlnet'}
    config = {
        'images': {'kind': 'cityscapes'},
        'objects': {'kind': 'ade20k'},
        'generator': generator,
        **changes,
    }
    return Scenes(AugmentConfig.model_validate(config), data, data / 'cache')


def test_label_ids_are_read_where_they_are(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = scenes(data)
    assert f'of 2 images 1 ({FRAMES[1]}) have no labelIds image' in caplog.text
    first, second = found.read(0), found.read(1)
    assert first.label_ids is not None
    assert np.unique(first.label_ids[:10]).tolist() == [15]
    assert np.unique(first.label_ids[10:]).tolist() == [7]
    assert (first.labels[:10] == VOID).all()
    assert second.label_ids is None


def test_label_ids_have_the_size_of_the_run(data: Path) -> None:
    scene = scenes(data, size=[40, 60]).read(0)
    assert scene.label_ids is not None
    assert scene.label_ids.shape == scene.labels.shape == (40, 60)
    assert np.unique(scene.label_ids).tolist() == [7, 15]


def test_who_does_not_paint_by_them_reads_none(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(data, FRAMES[0], 'gtFine_labelIds', np.full((20, 30), 99, np.uint8))
    with caplog.at_level(logging.WARNING):
        assert scenes(data, 'procedural').read(0).label_ids is None
    assert not caplog.text


def test_broken_label_ids_are_named(data: Path) -> None:
    save(data, FRAMES[0], 'gtFine_labelIds', np.full((20, 30), 99, np.uint8))
    with pytest.raises(MultishiftError, match=r'labelIds\.png: label value 99 .*\(0\.\.33\)'):
        scenes(data).read(0)
    save(data, FRAMES[0], 'gtFine_labelIds', np.full((10, 30), 7, np.uint8))
    with pytest.raises(MultishiftError, match=r'labelIds\.png has \(10, 30\) pixels, but'):
        scenes(data).read(0)

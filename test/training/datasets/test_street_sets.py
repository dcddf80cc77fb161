# SPDX-License-Identifier: Apache-2.0
"""GTAV, SYNTHIA, IDD, BDD100K and Mapillary Vistas, made up in the folders they come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pydantic import TypeAdapter
import pytest

from multishift_perception.classes import CITYSCAPES, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import ImageData, LabelledImages, open_images


def write(path: Path, raw: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(raw).save(path)


def make(root: Path, image: str, label: str, values: list[int]) -> None:
    """Write an image and its labels, a column for each value."""
    write(root / image, np.full((4, len(values), 3), 9, np.uint8))
    write(root / label, np.tile(np.array(values, np.uint8), (4, 1)))


def opened(root: Path, **description: Any) -> LabelledImages:
    config = TypeAdapter[ImageData](ImageData).validate_python(description)
    return open_images(config, root, root / 'cache')


def classes(images: LabelledImages, index: int = 0) -> list[str]:
    labels = images.read(index)[1][0].tolist()
    return ['void' if label == VOID else CITYSCAPES[label].name for label in labels]


@pytest.mark.parametrize('part', ['', 'train/folder/'])
def test_gtav_has_the_label_ids_of_cityscapes(tmp_path: Path, part: str) -> None:
    for number in (1, 2):
        name = f'{part}{number:05}.png'
        make(tmp_path / 'gtav', f'images/{name}', f'labels/{name}', [0, 7, 8, 17, 24, 33, 34])
    split = 'train' if part else 'all'
    images = opened(tmp_path, kind='gtav', split=split, patterns=['00002*'])
    assert [entry.name for entry in images.entries] == ['00002']
    assert classes(images) == [
        'void', 'road', 'sidewalk', 'pole', 'person', 'bicycle', 'void',
    ]  # fmt: skip


def test_synthia_has_classes_in_the_first_of_sixteen_bit_colours(tmp_path: Path) -> None:
    values = [0, 1, 3, 10, 14, 17, 21, 22]
    write(tmp_path / 'synthia/RGB/0000001.png', np.full((4, 8, 3), 9, np.uint8))
    labels = np.zeros((4, 8, 3), np.uint16)
    labels[..., 2] = values  # OpenCV writes red last
    labels[..., 1] = 700  # instances
    (tmp_path / 'synthia/GT/LABELS').mkdir(parents=True)
    file = tmp_path / 'synthia/GT/LABELS/0000001.png'
    file.write_bytes(cv2.imencode('.png', labels)[1].tobytes())
    images = opened(tmp_path, kind='synthia')
    assert classes(images) == [
        'void', 'sky', 'road', 'person', 'void', 'rider', 'wall', 'void',
    ]  # fmt: skip
    write(file, np.zeros((4, 8), np.uint8))
    with pytest.raises(MultishiftError, match=r'0000001\.png is no PNG image with colours'):
        images.read_labels(0)


def test_idd_reads_what_the_scripts_of_its_authors_write(tmp_path: Path) -> None:
    for name, ending in (('12/1', 'png'), ('7/2', 'jpg')):
        make(
            tmp_path / 'idd',
            f'leftImg8bit/val/{name}_leftImg8bit.{ending}',
            f'gtFine/val/{name}_gtFine_labelcsTrainIds.png',
            [0, 18, 255],
        )
    images = opened(tmp_path, kind='idd', split='val')
    assert [entry.name for entry in images.entries] == ['12/1', '7/2']
    assert classes(images, 1) == ['road', 'bicycle', 'void']
    (tmp_path / 'idd/gtFine/val/7/2_gtFine_labelcsTrainIds.png').unlink()
    with pytest.raises(MultishiftError, match=r'createLabels\.py --id-type csTrainId'):
        opened(tmp_path, kind='idd', split='val')


@pytest.mark.parametrize(
    ('image', 'label'),
    [
        ('images/10k/val/{}.jpg', 'labels/sem_seg/masks/val/{}.png'),
        ('seg/images/val/{}.jpg', 'seg/labels/val/{}_train_id.png'),
        ('images/val/{}.jpg', 'labels/val/{}_train_id.png'),
    ],
)
def test_bdd100k(tmp_path: Path, image: str, label: str) -> None:
    make(tmp_path / 'bdd100k', image.format('a-1'), label.format('a-1'), [10, 13, 255])
    images = opened(tmp_path, kind='bdd100k', split='val')
    assert [entry.name for entry in images.entries] == ['a-1']
    assert classes(images) == ['sky', 'car', 'void']


@pytest.mark.parametrize('labels', ['labels', 'v1.2/labels'])
def test_mapillary(tmp_path: Path, labels: str) -> None:
    base, values = tmp_path / 'mapillary/validation', [13, 2, 24, 23, 21, 61, 65]
    make(base, 'images/x_y.jpg', f'{labels}/x_y.png', values)
    images = opened(tmp_path, kind='mapillary', split='val')
    assert classes(images) == [
        'road', 'sidewalk', 'road', 'void', 'rider', 'truck', 'void',
    ]  # fmt: skip
    make(base, 'images/x_y.jpg', f'{labels}/x_y.png', [66])
    with pytest.raises(MultishiftError, match='label value 66 is none of those mapillary uses'):
        images.read_labels(0)

# SPDX-License-Identifier: Apache-2.0
"""A data set of one's own: a class and a line, and all that reads data sets takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
import pytest
import yaml

from multishift_perception.errors import MultishiftError
from multishift_perception.schema.yaml_files import read_typed
from multishift_training.datasets import ValidationData, open_images
from multishift_training.datasets.descriptions import read_datasets
from multishift_training.datasets.entries import Entry, find, pair
from multishift_training.datasets.groups import Group, Groups
from multishift_training.datasets.kinds import ImageSet, register
from multishift_training.datasets.tables import Table, table_of
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.train import train


class ToyData(ImageSet):
    """Small pictures.

    Attributes:
        root: folder of pictures, and of labels named alike.
    """

    kind: Literal['toy']
    root: Path = Path('toy')

    domain: ClassVar[str] = 'toy_town'
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = True
    may_be_partner: ClassVar[bool] = True
    groups: ClassVar[Groups] = (Group('vehicle', ('car', 'bus')),)

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by name."""
        folder = root / self.root
        images, labels = find(folder, '*', ('.jpg',)), find(folder, '*', ('.png',))
        pairs = pair(self.kind, images, labels, mend='draw them again')
        return [Entry(image, path, key, key) for key, image, path in pairs]

    def table(self, root: Path) -> Table:
        """Return road, any vehicle, and what is novel."""
        return table_of({1: 0, 2: 19, 3: 254})


@pytest.fixture
def data(
    tmp_path: Path, own_registries: Callable[[], AbstractContextManager[None]]
) -> Iterator[Path]:
    """A data root with eight pictures; the data set is forgotten afterwards."""
    rng = np.random.default_rng(0)
    (tmp_path / 'toy').mkdir()
    for i in range(8):
        raw = rng.choice([1, 2, 3], (8, 12)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        Image.fromarray(raw * 60).convert('RGB').save(tmp_path / f'toy/{i}.jpg')
        Image.fromarray(raw).save(tmp_path / f'toy/{i}.png')
    with own_registries():
        register(ToyData)
        yield tmp_path


def test_it_is_described_opened_and_written_as_others_are(data: Path) -> None:
    (data / 'sets.yaml').write_text('{a: {kind: toy}, b: {images: {kind: toy, root: toy}}}')
    found = read_datasets([data / 'sets.yaml'])
    assert found['a'] == found['b'] == ValidationData(images=ToyData(kind='toy'))
    images = open_images(found['a'].images, data, data / 'cache')
    assert len(images) == 8
    assert images.domain == 'toy_town'
    assert images.groups == ToyData.groups
    assert set(np.unique(images.read(0)[1])) == {0, 19, 254}
    assert found['a'].model_dump(mode='json', exclude_none=True) == {
        'images': {'kind': 'toy', 'root': 'toy'}
    }
    again = ValidationData.model_validate_json(found['a'].model_dump_json())
    assert again == found['a']
    assert yaml.safe_load(yaml.safe_dump(again.model_dump(mode='json')))['images']['root'] == 'toy'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('images: {kind: toys}', 'images.kind (line 1) is toys, expected cityscapes,'),
        ('images: {kind: toys}', '(did you mean toy?)'),
        ('images: {kind: toy, rot: a}', 'images.rot (line 1) is no key of toy, expected kind or '),
        ('images: {root: a}', 'images.kind is missing in the block of line 1, expected citysc'),
        ('images: {kind: toy, root: 3}', 'images.root (line 1) is 3, expected a path'),
    ],
)
def test_faults_are_told_as_of_others(data: Path, text: str, said: str) -> None:
    (data / 'one.yaml').write_text(text)
    with pytest.raises(MultishiftError) as fault:
        read_typed(data / 'one.yaml', ValidationData, 'a description')
    assert said in str(fault.value)


@pytest.mark.slow
def test_it_is_trained_and_validated_on_with_partners_of_its_own(data: Path) -> None:
    stage = {
        'name': 'one',
        'epochs': 1,
        'trainable': ['*'],
        'method': {'kind': 'multishift', 'margins': [10, 5, 5], 'class_weights': True},
        'optimizer': {'learning_rate': 1e-3},
    }
    config = TrainConfig.model_validate(
        {
            'model': 'deeplabv3plus_compact',
            'data': {
                'images': {'kind': 'toy'},
                'partners': {'kind': 'toy'},
                'transforms': {'kind': 'zoom_crop', 'crop': [64, 64]},
            },
            'val': {'images': {'kind': 'toy'}},
            'batch_size': 4,
            'workers': 0,
            'loss_stride': 4,
            'monitor': 'miou+ap',
            'stages': [stage],
        }
    )
    best = train(config, data / 'run', root=data)
    assert best is not None and best.is_file()
    assert yaml.safe_load((data / 'run/config.yaml').read_text())['data']['partners'] == {
        'kind': 'toy',
        'root': 'toy',
    }

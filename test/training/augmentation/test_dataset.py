# SPDX-License-Identifier: Apache-2.0
"""Generated sets as training reads them: whose partner each image is, and how often it comes."""

from __future__ import annotations

from collections import Counter
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import AugmentConfig
from multishift_training.augmentation.run import augment
from multishift_training.datasets import Samples, TrainingData, open_images
from multishift_training.datasets.kinds import MultishiftCityscapesData

Bytes = NDArray[np.uint8]
SIZE = (48, 64)


def save(path: Path, content: Bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(content).save(path)


def street() -> Bytes:
    labels = np.zeros(SIZE, np.uint8)
    labels[:20] = 2
    return labels


def cityscapes(root: Path) -> dict[str, Any]:
    for name in ('ulm_000001_000019', 'ulm_000001_000020'):
        save(root / f'cityscapes/leftImg8bit/train/ulm/{name}_leftImg8bit.png', picture())
        save(root / f'cityscapes/gtFine/train/ulm/{name}_gtFine_labelTrainIds.png', street())
    return {'kind': 'cityscapes'}


def camvid(root: Path) -> dict[str, Any]:
    labels = np.full(SIZE, 3, np.uint8)
    labels[:20] = 1
    for name in ('0016E5_07959', '0001TP_006690', '0001TP_006720'):
        save(root / f'camvid/images/train/{name}.png', picture())
        save(root / f'camvid/labels/train/{name}.png', labels)
    return {'kind': 'camvid', 'split': 'train'}


def sample_drive(root: Path) -> dict[str, Any]:
    return {
        'kind': 'sample_drive',
        'split': 'train',
        'frames': 2,
        'seed': 1000000,
        'size': list(SIZE),
        'conditions': ['night', 'day'],
        'learn_novel': False,
    }


def folder(root: Path) -> dict[str, Any]:
    for name in ('a b/frame', 'a b/frame_box', '.hidden (1)/x'):
        save(root / f'pictures/{name}.png', picture())
        save(root / f'masks/{name}.png', street())
    (root / 'table.yaml').write_text('{0: 0, 2: 2}')
    return {
        'kind': 'folder',
        'images': 'pictures',
        'labels': 'masks',
        'image_suffix': '.png',
        'label_map': str(root / 'table.yaml'),
    }


def picture() -> Bytes:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize('source', [cityscapes, camvid, sample_drive, folder])
def test_a_run_gives_every_original_its_partners(source: Any, tmp_path: Path) -> None:
    images = source(tmp_path)
    save(tmp_path / 'objects/box.png', np.full((40, 30), 255, np.uint8))
    config = AugmentConfig.model_validate(
        {
            'images': images,
            'per_image': 2,
            'objects': {'kind': 'cutouts', 'root': 'objects'},
            'generator': {'kind': 'procedural'},
        }
    )
    assert augment(config, tmp_path / 'run', root=tmp_path).accepted >= 4
    partners = {'kind': 'multishift_cityscapes', 'root': 'run'}
    samples = Samples(
        TrainingData.model_validate(
            {
                'images': images,
                'partners': partners,
                'transforms': {'kind': 'multishift_deeplab', 'crop': list(SIZE)},
            }
        ),
        root=tmp_path,
        cache=tmp_path / 'run/cache',
        seed=0,
    )
    assert samples.domains[0].unpaired == ()
    for index in range(len(samples)):
        labels = samples.sample(0, index).labels
        novel = labels[1] == NOVEL
        assert novel.any() and (labels[0][~novel] == labels[1][~novel]).all()
    opened = open_images(MultishiftCityscapesData.model_validate(partners), tmp_path, tmp_path)
    by_scene = {
        entry.scene: {e.name for e in opened.entries if e.scene == entry.scene}
        for entry in opened.entries
    }
    # Whatever stands in the names, each belongs to the source that the records say.
    assert {len(names) for names in by_scene.values()} == {2}
    assert len(by_scene) == len(samples.domains[0].originals)


def records(root: Path, weights: dict[str, float | None]) -> None:
    lines = [{'source': 'ulm_000001_000019', 'file': None, 'figures': {}}]
    for file, weight in weights.items():
        figures = {} if weight is None else {'labels_kept': weight}
        lines.append({'source': 'ulm_000001_000019', 'file': file, 'figures': figures})
    (root / 'generated/records.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))


def drawn(root: Path) -> list[int]:
    samples = Samples(
        TrainingData.model_validate(
            {
                'images': {'kind': 'cityscapes'},
                'partners': {'kind': 'multishift_cityscapes', 'root': 'generated'},
                'transforms': {'kind': 'multishift_deeplab', 'crop': list(SIZE)},
            }
        ),
        root=root,
        cache=root,
        seed=0,
    )
    return [int(samples.sample(epoch, 0)[0][1, 0, 0, 0]) for epoch in range(400)]


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """Two originals; the first has three partners, of shades 1, 2 and 3."""
    cityscapes(tmp_path)
    for shade in (1, 2, 3):
        stem = f'ulm_000001_000019_cone{shade}_0.91'
        base = tmp_path / 'generated'
        shaded = np.full((*SIZE, 3), shade, np.uint8)
        save(base / f'leftImg8bit/train/ulm/{stem}_leftImg8bit.png', shaded)
        save(base / f'gtFine/train/ulm/{stem}_gtFine_labelTrainIds.png', street())
    return tmp_path


def stem(shade: int) -> str:
    return f'ulm_000001_000019_cone{shade}_0.91'


def test_partners_are_drawn_by_the_labels_they_keep(generated: Path) -> None:
    records(generated, {stem(1): 0.9, stem(2): 0.1, stem(3): 0.0})
    counts = Counter(drawn(generated))
    assert set(counts) == {1, 2} and 0.85 < counts[1] / 400 < 0.95


@pytest.mark.slow
def test_equal_weights_draw_as_none(generated: Path) -> None:
    plain = drawn(generated)
    assert min(Counter(plain).values()) > 90
    for weight in (0.4, 0.0, None):
        records(generated, dict.fromkeys(map(stem, (1, 2, 3)), weight))
        assert drawn(generated) == plain


def test_what_is_not_recorded_weighs_one(generated: Path) -> None:
    records(generated, {stem(2): 0.0, stem(3): 0.0})
    assert set(drawn(generated)) == {1}


@pytest.mark.parametrize(
    'line', ['{"source"', '[]', '{"file": "a"}', '{"source": "a", "file": "a", "figures": 3}']
)
def test_damaged_records_are_named(generated: Path, line: str) -> None:
    (generated / 'generated/records.jsonl').write_text(line)
    with pytest.raises(MultishiftError, match=r'records\.jsonl is damaged') as caught:
        drawn(generated)
    assert '\n' not in str(caught.value)


def test_weights_outside_their_range_are_damage(generated: Path) -> None:
    records(generated, {stem(1): -0.5})
    with pytest.raises(MultishiftError, match='labels_kept is -0.5'):
        drawn(generated)

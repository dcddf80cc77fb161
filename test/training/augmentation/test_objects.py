# SPDX-License-Identifier: Apache-2.0
"""Novel objects of every source: what they are called, their shape and looks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter
import pytest

from multishift_perception.errors import MultishiftError
from multishift_perception.sample_drive import NOVEL_OBJECTS, cutouts
from multishift_perception.sample_drive.novel.novel_objects import novel_object
from multishift_training.augmentation.ade20k import ade20k
from multishift_training.augmentation.config import ObjectData
from multishift_training.augmentation.objects import Objects, open_objects
from multishift_training.augmentation.parts import NovelObject, Rejection

SCENES = 'ade/images/ADE/training/urban'
# Classes of ADE20K-full: a chair and a flag, and a wall, which is no novel object. The flag is on
# the list for training only.
CHAIR, FLAG, WALL = 471, 954, 2978


def source(data: Path, /, **config: object) -> Objects:
    description: Any = TypeAdapter(ObjectData).validate_python(config)
    return open_objects(description, data)


def drawn(objects: Objects, count: int) -> list[NovelObject]:
    return [objects.draw(np.random.default_rng(seed)) for seed in range(count)]


def full_color(index: int, instance: int) -> tuple[int, int, int]:
    tens, green = divmod(index, 256)
    return tens * 10, green, instance


def save_ade(root: Path, name: str, *boxes: tuple[int, int, NDArray[Any]]) -> None:
    """A wall with things before it; a thing's pixels show its class and instance, doubled."""
    label = np.zeros((60, 80, 3), np.uint8)
    label[:] = full_color(WALL, 1)
    picture = np.zeros((60, 80, 3), np.uint8)
    for index, instance, where in boxes:
        label[where[0] : where[1], where[2] : where[3]] = full_color(index, instance)
        picture[where[0] : where[1], where[2] : where[3]] = (index % 100, instance, 200)
    folder = root / SCENES
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label).save(folder / f'{name}_seg.png')
    Image.fromarray(label).save(folder / f'{name}_parts_1.png')
    Image.fromarray(picture).save(folder / f'{name}.jpg', quality=100, subsampling=0)


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    """Three images: two chairs and a wall, a wall alone, and a flag."""
    save_ade(
        tmp_path,
        'ADE_train_1',
        (CHAIR, 2, np.array([10, 30, 20, 30])),
        (CHAIR, 3, np.array([5, 10, 40, 60])),
    )
    save_ade(tmp_path, 'ADE_train_2')
    save_ade(tmp_path, 'ADE_train_3', (FLAG, 1, np.array([0, 60, 0, 7])))
    return tmp_path


def test_ade20k_draws_an_image_and_then_an_instance(ade: Path) -> None:
    objects = drawn(source(ade, kind='ade20k', root='ade'), 400)
    counts = Counter((novel.name, novel.mask.shape) for novel in objects)
    assert set(counts) == {('chair', (20, 10)), ('chair', (5, 20)), ('flag', (60, 7))}
    # The wall alone is drawn again, so that the flag's image takes half of all draws.
    assert abs(counts['flag', (60, 7)] / 400 - 0.5) < 0.08
    assert abs(counts['chair', (20, 10)] / 400 - 0.25) < 0.08
    for novel in objects:
        assert novel.mask.all() and novel.picture is not None
        assert novel.picture.shape == (*novel.mask.shape, 3)
        assert novel.ade_index == ade20k().names.index(novel.name)
        assert np.abs(novel.picture.reshape(-1, 3).mean(0)[2] - 200) < 4
    origins = {novel.origin for novel in objects}
    assert f'{SCENES.removeprefix("ade/")}/ADE_train_1_seg.png instance 2' in origins
    assert len(origins) == 3


def test_ade20k_validation_list_is_narrower(ade: Path) -> None:
    names = {o.name for o in drawn(source(ade, kind='ade20k', root='ade', classes='val'), 60)}
    expected = {'chair', 'flag'} & {ade20k().names[i] for i in ade20k().novel['val']}
    assert names == expected and len(expected) == 1


def test_ade20k_indices_use_both_channels(tmp_path: Path) -> None:
    # One color a class: the same green is another class where red differs, and red counts in tens.
    label = np.zeros((4, 4, 3), np.uint8)
    tens, green = divmod(CHAIR, 256)
    label[:2] = (tens * 10 + 9, green, 0)
    label[2:] = (tens * 10 + 10, green, 0)
    folder = tmp_path / 'ade/images'
    folder.mkdir(parents=True)
    Image.fromarray(label).save(folder / 'a_seg.png')
    Image.fromarray(label).save(folder / 'a.jpg')
    novel = source(tmp_path, kind='ade20k', root='ade').draw(np.random.default_rng(0))
    assert novel.name == 'chair' and novel.mask.shape == (2, 4)


def test_ade20k_faults(ade: Path, tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match='ade20k: folder .*/absent does not exist'):
        source(tmp_path, kind='ade20k', root='absent')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(MultishiftError, match=r'empty holds no images/\*\*/\*_seg\.png:'):
        source(tmp_path, kind='ade20k', root='empty')
    (ade / SCENES / 'ADE_train_2.jpg').unlink()
    with pytest.raises(MultishiftError, match=r'of 3 label images .* 1 \(ADE_train_2\.jpg\)'):
        source(ade, kind='ade20k', root='ade')


def test_ade20k_without_objects(tmp_path: Path) -> None:
    save_ade(tmp_path, 'ADE_train_1')
    objects = source(tmp_path, kind='ade20k', root='ade')
    with pytest.raises(MultishiftError, match="none of 200 label images .*list 'train'"):
        objects.draw(np.random.default_rng(0))


def test_ade20k_picture_of_another_size(ade: Path) -> None:
    for number in (1, 2, 3):
        Image.new('RGB', (40, 30)).save(ade / SCENES / f'ADE_train_{number}.jpg')
    with pytest.raises(MultishiftError, match=r'_seg\.png has \(60, 80\) pixels, but ADE_train'):
        source(ade, kind='ade20k', root='ade').draw(np.random.default_rng(0))


@pytest.mark.parametrize(
    ('key', 'name', 'index'), [('000000000139', 'object', None), ('dog_000000000139', 'dog', 126)]
)
def test_coco(tmp_path: Path, key: str, name: str, index: int | None) -> None:
    mask = np.zeros((50, 40), np.uint8)
    mask[20:40, 15:25], mask[:5] = 254, 255
    masks, images = tmp_path / 'coco/annotations/ood_seg_train2017', tmp_path / 'coco/train2017'
    for folder in (masks, images):
        folder.mkdir(parents=True)
    Image.fromarray(mask).save(masks / f'{key}.png')
    picture = np.zeros((50, 40, 3), np.uint8)
    picture[20:40, 15:25] = (200, 0, 0)
    Image.fromarray(picture).save(images / '000000000139.jpg', quality=100, subsampling=0)
    novel = source(tmp_path, kind='coco_objects').draw(np.random.default_rng(0))
    assert (novel.name, novel.origin, novel.ade_index) == (name, key, index)
    assert novel.mask.shape == (20, 10) and novel.mask.all()
    assert novel.picture is not None and abs(novel.picture[..., 0].mean() - 200) < 4

    Image.fromarray(mask * (mask == 255)).save(masks / f'{key}.png')
    with pytest.raises(Rejection, match='object is empty'):
        source(tmp_path, kind='coco_objects').draw(np.random.default_rng(0))


def test_coco_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match='coco_objects: no mask'):
        source(tmp_path, kind='coco_objects')


def save_cutout(path: Path, *, alpha: bool = True) -> None:
    """A block of 6 x 4, as a picture or as a mask, with a rim that is nearly transparent."""
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[4:12, 9:15] = (10, 200, 30, 127)
    pixels[5:11, 10:14, 3] = 128
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels if alpha else (pixels[..., 3] > 127).astype(np.uint8))
    picture.save(path)


@pytest.mark.parametrize(
    ('file', 'name', 'index'),
    [
        ('traffic_cone/whatever.png', 'traffic cone', None),
        ('set/trash-bag/07.png', 'trash bag', ade20k().names.index('bag')),
        ('cow_012.png', 'cow', ade20k().names.index('animal')),
        ('crate7.png', 'crate', ade20k().names.index('box')),
        ('0001.png', 'object', None),
    ],
)
def test_cutouts_are_named_by_folder_or_file(
    tmp_path: Path, file: str, name: str, index: int | None
) -> None:
    save_cutout(tmp_path / 'cutouts' / file)
    novel = source(tmp_path, kind='cutouts', root='cutouts').draw(np.random.default_rng(0))
    assert (novel.name, novel.ade_index) == (name, index)
    assert novel.origin == file.removesuffix('.png')
    assert novel.mask.shape == (6, 4) and novel.mask.all()
    assert novel.picture is not None and (novel.picture == (10, 200, 30)).all()


def test_masks_are_cutouts_without_looks(tmp_path: Path) -> None:
    save_cutout(tmp_path / 'cutouts/bag/1.png', alpha=False)
    palette = np.zeros((9, 9), np.uint8)
    palette[2:4, 3:8] = 2
    indexed = Image.fromarray(palette)
    # Index 0 is no object, whatever it looks like.
    indexed.putpalette([250, 250, 250, 0, 0, 0, 0, 0, 0])
    indexed.save(tmp_path / 'cutouts/bag/2.png')
    objects = drawn(source(tmp_path, kind='cutouts', root='cutouts'), 20)
    assert {novel.mask.shape for novel in objects} == {(6, 4), (2, 5)}
    assert all(novel.mask.all() and novel.picture is None for novel in objects)


def test_cutout_faults(tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match='cutouts: folder .*/absent does not exist'):
        source(tmp_path, kind='cutouts', root='absent')
    folder = tmp_path / 'cutouts'
    folder.mkdir()
    (folder / 'notes.txt').touch()
    with pytest.raises(MultishiftError, match=r'cutouts holds no \*\*/\*\.png or \*\*/\*\.webp'):
        source(tmp_path, kind='cutouts', root='cutouts')
    (folder / 'bag.png').write_bytes(b'nothing')
    with pytest.raises(MultishiftError, match=r'bag\.png is no readable image'):
        source(tmp_path, kind='cutouts', root='cutouts').draw(np.random.default_rng(0))
    Image.new('RGBA', (5, 5)).save(folder / 'bag.png')
    with pytest.raises(Rejection, match='object is empty'):
        source(tmp_path, kind='cutouts', root='cutouts').draw(np.random.default_rng(0))


@pytest.mark.slow
def test_sample_objects_are_called_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = []

    def spied(split: str, kind: str, seed: int) -> object:
        kinds.append(kind)
        return built(split, kind, seed)

    built = novel_object
    monkeypatch.setattr(cutouts, 'novel_object', spied)
    objects = drawn(source(tmp_path, kind='sample_objects', split='val'), 12)
    assert [novel.name for novel in objects] == kinds
    assert len(set(kinds)) > 3 and set(kinds) <= set(NOVEL_OBJECTS['val'])
    assert len({novel.origin for novel in objects}) == 12
    for novel in objects:
        assert novel.picture is not None and novel.picture.shape == (*novel.mask.shape, 3)
        assert novel.mask.any(0).all() and novel.mask.any(1).all()


def test_a_seed_draws_one_object(ade: Path) -> None:
    for config in ({'kind': 'ade20k', 'root': 'ade'}, {'kind': 'sample_objects', 'split': 'demo'}):
        first, second = (source(ade, **config).draw(np.random.default_rng(9)) for _ in range(2))
        assert first.origin == second.origin and (first.mask == second.mask).all()
        assert first.picture is not None and (first.picture == second.picture).all()

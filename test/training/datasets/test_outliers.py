# SPDX-License-Identifier: Apache-2.0
"""Pasted objects: where they land, what they are labelled, and where they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets.config import CocoObjects, SampleObjects
from multishift_training.datasets.outliers import open_outliers, paste

Bytes = NDArray[np.uint8]


class Blocks:
    """Pastes blocks of one colour and size."""

    before_transforms = False

    def __init__(self, size: tuple[int, int], sky: float = 0.0, alpha: int = 255) -> None:
        self.size, self.sky, self.alpha = size, sky, alpha

    def count(self, rng: np.random.Generator) -> int:
        return 1

    def draw(self, image: Bytes, rng: np.random.Generator) -> Bytes | None:
        block = np.full((*self.size, 4), 200, np.uint8)
        block[..., 3] = self.alpha
        return block


def blank(size: tuple[int, int] = (40, 60)) -> tuple[Bytes, Bytes]:
    return np.full((*size, 3), 100, np.uint8), np.zeros(size, np.uint8)


def test_objects_lie_inside_and_reach_every_border() -> None:
    reached = np.zeros((40, 60), bool)
    for seed in range(400):
        image, labels = blank()
        paste(Blocks((7, 11)), image, labels, np.random.default_rng(seed))
        novel = labels == NOVEL
        assert novel.sum() == 7 * 11
        assert (image[novel] == 200).all() and (image[~novel] == 100).all()
        reached |= novel
    assert reached[0].any() and reached[-1].any() and reached[:, 0].any() and reached[:, -1].any()


def test_an_object_as_large_as_the_image_fits() -> None:
    image, labels = blank()
    paste(Blocks((40, 60)), image, labels, np.random.default_rng(0))
    assert (labels == NOVEL).all()


def test_objects_end_below_the_sky() -> None:
    for seed in range(100):
        image, labels = blank()
        paste(Blocks((7, 11), sky=0.5), image, labels, np.random.default_rng(seed))
        assert np.flatnonzero((labels == NOVEL).any(1))[-1] >= 19


def test_soft_edges_blend_and_belong_to_the_object_from_one_half() -> None:
    for alpha, label in ((127, 0), (128, NOVEL)):
        image, labels = blank()
        paste(Blocks((40, 60), alpha=alpha), image, labels, np.random.default_rng(0))
        assert (labels == label).all()
        assert (image == round(100 + 100 * alpha / 255)).all()


def make_coco(root: Path, masks: str, *names: str, value: int = 254) -> None:
    """Pictures of 50 x 40 with a red block of 20 x 10 on blue."""
    picture = np.zeros((50, 40, 3), np.uint8)
    picture[..., 2] = 255
    raw = np.zeros((50, 40), np.uint8)
    picture[20:40, 15:25] = (255, 0, 0)
    raw[20:40, 15:25] = value
    raw[:5] = 255
    for name in names:
        for path in (
            root / 'coco' / 'train2017' / f'{name.rpartition("_")[2]}.jpg',
            root / 'coco' / masks / f'{name}.png',
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(
            root / f'coco/train2017/{name.rpartition("_")[2]}.jpg', quality=100, subsampling=0
        )
        Image.fromarray(raw).save(root / 'coco' / masks / f'{name}.png')


@pytest.mark.parametrize(
    ('masks', 'name', 'value'),
    [
        ('annotations/ood_seg_train2017', '000000000139', 254),
        ('annotations/oodclass_nocrowd_seg_train2017', 'teddy bear_000000000139', 88),
    ],
)
def test_coco_objects_in_both_namings(tmp_path: Path, masks: str, name: str, value: int) -> None:
    make_coco(tmp_path, masks, name, value=value)
    source = open_outliers(CocoObjects(kind='coco_objects', masks=Path(masks)), tmp_path)
    sizes = set()
    for seed in range(60):
        image, labels = blank((64, 64))
        labels[:] = VOID
        paste(source, image, labels, np.random.default_rng(seed))
        novel = labels == NOVEL
        assert set(np.unique(labels)) == {NOVEL, VOID}
        rows, columns = np.flatnonzero(novel.any(1)), np.flatnonzero(novel.any(0))
        assert np.ptp(rows) + 1 == len(rows) and novel.sum() == len(rows) * len(columns)
        assert (image[~novel] == 100).all()
        red = image[novel]
        assert red[:, 0].min() > 225 and red[:, 2].max() < 30
        sizes.add((len(rows), len(columns)))
    assert sizes == {(2 * s, s) for s in range(1, 11)}


def test_coco_object_is_shrunk_to_what_it_is_pasted_into(tmp_path: Path) -> None:
    make_coco(tmp_path, 'annotations/ood_seg_train2017', '000000000139')
    source = open_outliers(CocoObjects(kind='coco_objects'), tmp_path)
    sizes = set()
    for seed in range(40):
        image, labels = blank((8, 30))
        paste(source, image, labels, np.random.default_rng(seed))
        sizes.add((labels == NOVEL).any(1).sum())
    assert max(sizes) == 8


def test_coco_mask_without_object_pastes_nothing(tmp_path: Path) -> None:
    make_coco(tmp_path, 'annotations/ood_seg_train2017', '000000000139', value=255)
    source = open_outliers(CocoObjects(kind='coco_objects'), tmp_path)
    image, labels = blank()
    paste(source, image, labels, np.random.default_rng(0))
    assert (labels == 0).all() and (image == 100).all()


def test_missing_coco(tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match='no mask .*ood_seg_train2017.*prepare_coco'):
        open_outliers(CocoObjects(kind='coco_objects'), tmp_path)
    names = [f'00000000013{i}' for i in range(5)]
    make_coco(tmp_path, 'annotations/ood_seg_train2017', *names)
    (tmp_path / 'coco/train2017/000000000131.jpg').unlink()
    (tmp_path / 'coco/train2017/000000000133.jpg').unlink()
    with pytest.raises(
        MultishiftError, match=r'of 5 masks 2 \(000000000131\.jpg, 000000000133\.jpg\)'
    ):
        open_outliers(CocoObjects(kind='coco_objects'), tmp_path)


def test_sample_objects(tmp_path: Path) -> None:
    source = open_outliers(SampleObjects(kind='sample_objects', split='train'), tmp_path)
    pasted = 0
    for seed in range(12):
        image, labels = blank((90, 120))
        paste(source, image, labels, np.random.default_rng(seed))
        novel = labels == NOVEL
        pasted += bool(novel.any())
        # Flat grey before: only pasted pixels differ from it, a soft edge aside.
        assert np.abs(image[~novel].astype(int) - 100).mean() < 12
    assert 6 <= pasted <= 12


def test_sample_objects_are_dark_in_a_dark_scene(tmp_path: Path) -> None:
    source = open_outliers(SampleObjects(kind='sample_objects', split='val'), tmp_path)
    light = []
    for shade in (30, 120):
        drawn = source.draw(np.full((90, 120, 3), shade, np.uint8), np.random.default_rng(1))
        assert drawn is not None
        light.append(drawn[..., :3][drawn[..., 3] > 128].mean())
    assert light[0] < 0.4 * light[1]

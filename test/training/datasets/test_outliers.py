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
from multishift_training.datasets.config import CocoObjects, PhotoObjects, SampleObjects
from multishift_training.datasets.outliers import OutlierChoice, open_outliers, paste

Bytes = NDArray[np.uint8]


class Blocks:
    """Pastes blocks of one colour and size."""

    before_transforms = False

    def __init__(self, size: tuple[int, int], alpha: int = 255) -> None:
        self.size, self.alpha = size, alpha

    def count(self, rng: np.random.Generator) -> int:
        return 1

    def draw(self, image: Bytes, rng: np.random.Generator) -> Bytes | None:
        block = np.full((*self.size, 4), 200, np.uint8)
        block[..., 3] = self.alpha
        return block

    def bottom(self, size: tuple[int, int], rows: int, rng: np.random.Generator) -> int:
        return int(rng.integers(size[0], rows + 1))


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


def test_objects_of_the_drive_end_below_the_sky() -> None:
    source = open_outliers(SampleObjects(kind='sample_objects', split='train'), Path())
    rng = np.random.default_rng(0)
    bottoms = [source.bottom((7, 11), 60, rng) for _ in range(400)]
    assert (min(bottoms), max(bottoms)) == (20, 60)


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


def make_cutouts(root: Path, *lines: str) -> None:
    """Green discs with a soft edge, of 60 x 30 pixels, whose ground is red under no alpha."""
    lines = lines or (
        'train/a.webp,trashnet,paper,train',
        'train/b.webp,horses,horse,train',
        'val/c.webp,cats,cat,val',
    )
    for line in lines:
        path = root / 'cutouts' / line.partition(',')[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        y, x = np.mgrid[-1:1:60j, -1:1:30j]
        alpha = np.clip((1 - np.hypot(y, x)) * 8, 0, 1) * 255
        pixels = np.zeros((60, 30, 4), np.uint8)
        pixels[..., 3] = alpha
        pixels[alpha > 0, 1] = 200
        pixels[alpha == 0, 0] = 255
        Image.fromarray(pixels).save(path, lossless=True, exact=True)
    text = '\n'.join(('file,source,category,split', *lines))
    (root / 'cutouts/manifest.csv').write_text(text + '\n')


def photos(**description: object) -> PhotoObjects:
    return PhotoObjects.model_validate({'kind': 'cutouts', 'split': 'train', **description})


def test_cutouts_keep_their_soft_edge_and_nothing_of_their_ground(tmp_path: Path) -> None:
    make_cutouts(tmp_path)
    source = open_outliers(photos(), tmp_path)
    soft, counts = 0, set()
    for seed in range(80):
        image, labels = blank((120, 160))
        counts.add(source.count(np.random.default_rng(seed)))
        paste(source, image, labels, np.random.default_rng(seed))
        novel, changed = labels == NOVEL, (image != 100).any(2)
        assert (image[..., 0] <= 100).all()  # red stands under no alpha
        assert (image[novel][:, 0] <= 50).all()
        soft += int((changed & ~novel).sum())
    assert counts == {0, 1, 2, 3}
    assert soft > 100


def test_cutouts_are_lit_as_the_scene(tmp_path: Path) -> None:
    make_cutouts(tmp_path)
    source = open_outliers(photos(), tmp_path)
    means = []
    for shade in (20, 200):
        image = np.full((120, 160, 3), shade, np.uint8)
        drawn = [source.draw(image, np.random.default_rng(seed)) for seed in range(20)]
        means.append(np.mean([d[d[..., 3] == 255][:, 1].mean() for d in drawn if d is not None]))
    assert means[0] < 0.5 * means[1]


def test_cutouts_are_smaller_nearer_the_horizon(tmp_path: Path) -> None:
    make_cutouts(tmp_path)
    source = open_outliers(photos(), tmp_path)
    image, rng = blank((200, 300))[0], np.random.default_rng(0)
    found = []
    for _ in range(400):
        novel = source.draw(image, rng)
        assert novel is not None and 0.02 * 200 <= max(novel.shape[:2]) <= 0.4 * 200 + 1
        bottom = source.bottom((novel.shape[0], novel.shape[1]), 200, rng)
        assert novel.shape[0] <= bottom <= 200 and bottom >= 0.35 * 200
        found.append((max(novel.shape[:2]), bottom))
    sizes, bottoms = np.transpose(found)
    far, near = bottoms < 0.6 * 200, bottoms > 0.8 * 200
    assert far.sum() > 50 and near.sum() > 50
    assert sizes[far].mean() < 0.5 * sizes[near].mean()


def test_cutouts_of_a_split_and_its_sources(tmp_path: Path) -> None:
    make_cutouts(tmp_path)
    for description, names in (
        ({}, {'a', 'b'}),
        ({'sources': ['horses']}, {'b'}),
        ({'split': 'val'}, {'c'}),
    ):
        source = open_outliers(photos(**description), tmp_path)
        assert {path.stem for path in source._files} == names  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ('description', 'fault'),
    [
        ({'root': 'elsewhere'}, 'folder .*elsewhere does not exist: mend its folder'),
        ({'root': 'cutouts/train'}, 'manifest.csv does not exist'),
        (
            {'sources': ['horse']},
            r'lists no source horse \(did you mean horses\?\) of split train, but trashnet or h',
        ),
        ({'sources': ['cats']}, 'lists no source cats of split train'),
    ],
)
def test_cutouts_that_are_not_there(
    tmp_path: Path, description: dict[str, object], fault: str
) -> None:
    make_cutouts(tmp_path)
    with pytest.raises(MultishiftError, match=f'^cutouts: .*{fault}') as found:
        OutlierChoice(photos(**description), tmp_path)
    assert '\n' not in str(found.value)


def test_manifest_that_is_none(tmp_path: Path) -> None:
    make_cutouts(tmp_path)
    (tmp_path / 'cutouts/manifest.csv').write_text('name,source\na,b\n')
    with pytest.raises(MultishiftError, match=r'is no list of cut-outs with the columns file'):
        open_outliers(photos(), tmp_path)
    make_cutouts(tmp_path, 'val/c.webp,cats,cat,val')
    with pytest.raises(MultishiftError, match='lists nothing of split train'):
        open_outliers(photos(), tmp_path)
    (tmp_path / 'cutouts/val/c.webp').unlink()
    with pytest.raises(MultishiftError, match=r'of 1 listed cut-outs 1 \(val/c.webp\) are not in'):
        open_outliers(photos(split='val'), tmp_path)


def test_a_picture_without_alpha_is_no_cutout(tmp_path: Path) -> None:
    make_cutouts(tmp_path)
    for name in 'ab':
        Image.new('RGB', (9, 9)).save(tmp_path / f'cutouts/train/{name}.webp')
    with pytest.raises(MultishiftError, match=r'train/\w.webp has no alpha'):
        open_outliers(photos(), tmp_path).draw(blank()[0], np.random.default_rng(0))


def test_each_image_draws_one_of_the_kinds(tmp_path: Path) -> None:
    make_cutouts(tmp_path)
    make_coco(tmp_path, 'annotations/ood_seg_train2017', '000000000001')
    choice = OutlierChoice([photos(), CocoObjects(kind='coco_objects')], tmp_path)
    rng = np.random.default_rng(0)
    drawn = [type(choice.choose(rng)).__name__ for _ in range(200)]
    assert 70 < drawn.count('PhotoOutliers') < 130
    assert set(drawn) == {'PhotoOutliers', 'CocoOutliers'}
    single = OutlierChoice(photos(), tmp_path)
    before = rng.bit_generator.state
    single.choose(rng)
    assert rng.bit_generator.state == before  # as where it was the only kind that there could be

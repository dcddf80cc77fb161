# SPDX-License-Identifier: Apache-2.0
"""ADE20K's tables, and label maps in its colours."""

from __future__ import annotations

import numpy as np
import pytest

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID
from multishift_training.augmentation.ade20k import ade20k
from multishift_training.augmentation.color_map import ade_color_map
from multishift_training.augmentation.parts import Composition, NovelObject, Scene


def composed(labels: list[int], placed: list[bool], ade_index: int | None) -> Composition:
    """One row of pixels."""
    before, mask = np.array([labels], np.uint8), np.array([placed])
    scene = Scene('row', np.zeros((1, len(labels), 3), np.uint8), before)
    novel = NovelObject('thing', '', np.ones((1, sum(placed)), bool), None, ade_index)
    return Composition(scene, novel, np.where(mask, np.uint8(NOVEL), before), mask)


def colors(labels: list[int]) -> list[tuple[int, ...]]:
    painted = ade_color_map(composed([*labels, 0], [False] * len(labels) + [True], 19))
    return [tuple(int(v) for v in color) for color in painted[0, :-1]]


def test_tables_are_whole() -> None:
    tables = ade20k()
    assert len(tables.names) == len(set(tables.names)) == len(tables.palette) == 150
    # Every one of the 150 comes from ADE20K-full, three of them from two classes.
    assert len(tables.of_full) == 153
    assert set(tables.of_full.values()) == set(range(150))
    assert [len(tables.novel[name]) for name in ('train', 'val')] == [82, 32]
    assert tables.novel['val'] < tables.novel['train']
    assert tables.names[tables.of_full[2978]] == 'wall'
    assert tables.names[tables.of_full[774]] == tables.names[tables.of_full[783]] == 'door'
    assert {tables.names[i] for i in tables.novel['train']} >= {'bed', 'sofa', 'animal', 'flag'}
    assert set(tables.named.values()) == tables.novel['train']
    assert tables.named['cow'] == tables.names.index('animal')
    assert tables.any_shape in tables.novel['train']


def test_classes_have_the_published_colors() -> None:
    by_name = {c.name: i for i, c in enumerate(CITYSCAPES)}
    expected = {
        'road': (140, 140, 140),
        'sidewalk': (235, 255, 7),
        'building': (180, 120, 120),
        'wall': (120, 120, 120),
        'fence': (255, 184, 6),
        'pole': (51, 0, 255),
        'traffic light': (41, 0, 255),
        'traffic sign': (255, 5, 153),
        'vegetation': (4, 200, 3),
        'terrain': (4, 250, 7),
        'sky': (6, 230, 230),
        'person': (150, 5, 61),
        'rider': (150, 5, 61),
        'car': (0, 102, 200),
        'truck': (255, 0, 20),
        'bus': (255, 0, 245),
        'train': (255, 0, 245),
        'motorcycle': (255, 245, 0),
        'bicycle': (255, 245, 0),
    }
    assert colors([by_name[name] for name in expected]) == list(expected.values())


def test_label_ids_have_the_published_colors_of_all_classes() -> None:
    """By name, as the published map from Cityscapes' colours to ADE20K's has them."""
    road, black = (140, 140, 140), (0, 0, 0)
    expected = {
        'unlabeled': road,
        'ego vehicle': road,
        'rectification border': road,
        'out of roi': road,
        'static': road,
        'dynamic': black,
        'ground': road,
        'road': road,
        'sidewalk': (235, 255, 7),
        'parking': black,
        'rail track': (255, 61, 6),
        'building': (180, 120, 120),
        'wall': (120, 120, 120),
        'fence': (255, 184, 6),
        'guard rail': (255, 184, 6),
        'bridge': (255, 82, 0),
        'tunnel': black,
        'pole': (51, 0, 255),
        'polegroup': (51, 0, 255),
        'traffic light': (41, 0, 255),
        'traffic sign': (255, 5, 153),
        'vegetation': (4, 200, 3),
        'terrain': (4, 250, 7),
        'sky': (6, 230, 230),
        'person': (150, 5, 61),
        'rider': (150, 5, 61),
        'car': (0, 102, 200),
        'truck': (255, 0, 20),
        'bus': (255, 0, 245),
        'caravan': (0, 102, 200),
        'trailer': (255, 0, 20),
        'train': (255, 0, 245),
        'motorcycle': (255, 245, 0),
        'bicycle': (255, 245, 0),
    }
    count = len(expected)
    composition = composed([VOID] * count + [0], [False] * count + [True], 19)
    ids = np.array([[*range(count), 7]], np.uint8)
    scene = composition.scene._replace(label_ids=ids)
    painted = ade_color_map(composition._replace(scene=scene))
    found = [tuple(int(v) for v in color) for color in painted[0]]
    assert found == [*expected.values(), (204, 70, 3)]


def test_void_is_road_and_other_novel_objects_are_black() -> None:
    assert colors([VOID, NOVEL, 19]) == [(140, 140, 140), (0, 0, 0), (0, 0, 0)]


def test_no_object_has_a_color_of_the_scene() -> None:
    scene = set(colors(list(range(256))))
    assert len(scene) == 1 + 19 - 3  # black; of three pairs, both look the same
    for index in (*ade20k().novel['train'], None):
        painted = ade_color_map(composed([0, 2, VOID, 0], [False, False, False, True], index))
        assert tuple(int(v) for v in painted[0, 3]) not in scene


@pytest.mark.parametrize(('index', 'color'), [(19, (204, 70, 3)), (None, None)])
def test_the_object_has_the_color_of_its_class(
    index: int | None, color: tuple[int, int, int] | None
) -> None:
    painted = ade_color_map(composed([NOVEL, VOID, 2], [False, True, False], index))
    assert painted.shape == (1, 3, 3) and painted.dtype == np.uint8
    assert painted[0, 0].tolist() == [0, 0, 0]
    tables = ade20k()
    fallback = tables.palette[tables.names.index('sculpture')]
    assert painted[0, 1].tolist() == list(color or fallback.tolist())
    assert painted[0, 2].tolist() == [180, 120, 120]

# SPDX-License-Identifier: Apache-2.0
"""Patches of other images, and overlapping crops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_training.datasets.patches import (
    Box,
    Patch,
    PatchRecipe,
    cut_patch,
    draw_shape,
    overlapping_crops,
    paste_patch,
)

Bytes = NDArray[np.uint8]
RECIPE = PatchRecipe(sides=(8, 24))


def scene(rows: int = 96, columns: int = 128, seed: int = 0) -> tuple[Bytes, Bytes]:
    """Squares of 8 pixels of any class, the lower half road; each class is of one colour."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 19, (rows // 8, columns // 8), np.uint8).repeat(8, 0).repeat(8, 1)
    labels[rows // 2 :] = 0
    return np.stack([labels * 10] * 3, -1), labels


def test_a_patch_is_of_several_classes_and_begins_off_the_road() -> None:
    for seed in range(30):
        patch = cut_patch(scene(seed=seed), RECIPE, np.random.default_rng(seed))
        side = len(patch.labels)
        assert 8 <= side <= 24
        assert patch.image.shape == (side, side, 3) and patch.image.dtype == np.uint8
        assert patch.labels[0, 0] not in (0, VOID)
        assert np.bincount(patch.labels.ravel()).max() <= side**2 / 2


def test_a_donor_of_one_class_gives_its_corner() -> None:
    image, labels = scene()
    for label in (0, 5):
        labels[:] = label
        patch = cut_patch((image, labels), RECIPE, np.random.default_rng(1))
        assert set(np.unique(patch.labels)) <= {label, VOID}


def test_a_donor_smaller_than_a_patch_gives_what_it_has() -> None:
    image, labels = scene(16, 16)
    patch = cut_patch((image, labels), PatchRecipe(sides=(200, 256)), np.random.default_rng(0))
    assert 24 <= len(patch.labels) <= 28  # enlarged by 1.5 to 1.75


def test_shapes_are_mostly_hulls() -> None:
    rng = np.random.default_rng(0)
    shapes = [draw_shape(40, rng) for _ in range(400)]
    assert all(shape.any() and shape.shape == (40, 40) for shape in shapes)
    whole = np.mean([shape.all() for shape in shapes])
    assert 0.05 < whole < 0.16  # 0.3 x 0.34
    assert draw_shape(1, rng).any()


def test_pasted_pixels_are_novel_and_no_others_change() -> None:
    rng = np.random.default_rng(0)
    begins_on_road = 0
    for _ in range(50):
        image, labels = scene()
        before = image.copy(), labels.copy()
        patch = Patch(np.full((16, 16, 3), 250, np.uint8), np.full((16, 16), 30, np.uint8))
        paste_patch(image, labels, patch, RECIPE, rng)
        changed = labels != before[1]
        assert (labels[changed] == NOVEL).all() and changed.any()
        assert (image[~changed] == before[0][~changed]).all()
        assert (image[changed].astype(int) >= 0.9 * 250).all()  # opacity
        begins_on_road += changed[48:].any()
    assert begins_on_road > 35  # 0.7, and half of what begins anywhere


def test_a_patch_is_not_hidden_among_its_own_class() -> None:
    """It goes elsewhere where it can, and stays where it cannot."""
    rng = np.random.default_rng(0)
    image, labels = scene()
    road = Patch(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    recipe = PatchRecipe(on_road=0)
    for _ in range(20):
        covered = labels.copy()
        paste_patch(image, covered, road, recipe, rng)
        assert (labels[covered == NOVEL] == 0).mean() <= 0.5
    labels[:] = 0
    paste_patch(image, labels, road, recipe, rng)
    assert (labels == NOVEL).any()


def test_boxes() -> None:
    first, second = Box(0, 4, 10, 24), Box(4, 12, 14, 32)
    assert first.shared_with(second) == (4, 8, 10, 20)
    assert second.shared_with(first) == (0, 0, 6, 12)
    assert first.shared_with(second).mirrored(20) == (4, 0, 10, 12)
    assert np.zeros((10, 20))[first.shared_with(second).region].shape == (6, 12)


def placed(rows: int, columns: int) -> tuple[Bytes, Bytes]:
    """An image whose labels tell the row and whose colours cannot change."""
    image = np.full((rows, columns, 3), 128, np.uint8)
    labels = np.tile(np.arange(columns, dtype=np.uint8) % 200, (rows, 1))
    labels += (np.arange(rows, dtype=np.uint8) % 16)[:, None]
    return image, labels


def test_crops_share_what_they_say() -> None:
    for seed in range(20):
        image, labels = placed(96, 160)
        crops = overlapping_crops(
            image,
            labels,
            (),
            size=(64, 96),
            stride=4,
            union=(0.05, 0.3),
            recipe=RECIPE,
            rng=np.random.default_rng(seed),
        )
        assert crops.images.shape == (2, 64, 96, 3) and crops.labels.shape == (2, 64, 96)
        parts = []
        for i in range(2):
            box, flip = crops.overlaps[i], crops.flips[i]
            assert all(side % 4 == 0 for side in box)
            part = crops.labels[i][box.region]
            parts.append(part[:, ::-1] if flip else part)
            outside = np.ones((64, 96), bool)
            outside[box.region] = False
            assert (crops.labels[i][~outside] != VOID).all()
        assert (parts[0] == parts[1]).all()
        area = parts[0].size
        assert 0.05 < area / (2 * 64 * 96 - area) < 0.3


def test_one_shape_of_two_patches_lies_in_the_shared_part() -> None:
    donors = [scene(seed=seed) for seed in range(4)]
    differ = 0
    for seed in range(10):
        image, labels = placed(96, 160)
        crops = overlapping_crops(
            image,
            labels,
            donors,
            size=(64, 96),
            stride=4,
            union=(0.05, 0.3),
            recipe=RECIPE,
            rng=np.random.default_rng(seed),
        )
        masks, looks = [], []
        for i in range(2):
            box, flip = crops.overlaps[i], crops.flips[i]
            novel = crops.labels[i] == NOVEL
            inside = novel[box.region]
            assert novel.sum() == inside.sum() > 0
            masks.append(inside[:, ::-1] if flip else inside)
            look = crops.images[i][box.region]
            looks.append(look[:, ::-1] if flip else look)
        assert (masks[0] == masks[1]).all()
        differ += (looks[0][masks[0]] != looks[1][masks[0]]).any()
    assert differ >= 8


@pytest.mark.parametrize(('rows', 'columns'), [(64, 96), (64, 98)])
def test_without_room_crops_are_as_far_apart_as_they_can(rows: int, columns: int) -> None:
    image, labels = placed(rows, columns)
    crops = overlapping_crops(
        image,
        labels,
        (),
        size=(64, 96),
        stride=4,
        union=(0.05, 0.3),
        recipe=RECIPE,
        rng=np.random.default_rng(0),
    )
    assert all(box == (0, 0, 64, 96) for box in crops.overlaps)
    assert (crops.labels != VOID).all()  # nothing lies outside


def test_blocks_outside_are_grey_and_void() -> None:
    image = np.full((256, 512, 3), 10, np.uint8)
    labels = np.full((256, 512), 5, np.uint8)
    crops = overlapping_crops(
        image,
        labels,
        (),
        size=(192, 256),
        stride=4,
        union=(0.05, 0.3),
        recipe=RECIPE,
        rng=np.random.default_rng(2),
    )
    hidden = crops.labels == VOID
    assert 0.1 < hidden.mean() < 0.5
    assert (crops.images[hidden] == 128).all() and (crops.images[~hidden] != 128).all()

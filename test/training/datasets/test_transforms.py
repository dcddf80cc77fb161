# SPDX-License-Identifier: Apache-2.0
"""Transforms: members of a pair stay aligned, images with their labels, and nothing is filled."""

from __future__ import annotations

from collections import Counter
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
import pytest

from multishift_perception.classes import VOID
from multishift_training.datasets import TransformData
from multishift_training.datasets.transforms import (
    Fog,
    SharedTransforms,
    Sharpness,
    resized,
    steps,
    weather,
)

Bytes = NDArray[np.uint8]

DESCRIPTIONS: list[dict[str, Any]] = [
    {'kind': 'multishift_deeplab', 'crop': [64, 80]},
    {'kind': 'multishift_mask2former', 'crop': [96, 112]},
    {'kind': 'zoom_crop', 'crop': [64, 80], 'zoom': [0.4, 1.5]},
    {'kind': 'rule_aug', 'crop': [96, 112]},
]


def steps_of(description: dict[str, Any]) -> list[Any]:
    return steps(TypeAdapter[TransformData](TransformData).validate_python(description))


def moving(description: dict[str, Any]) -> SharedTransforms:
    """Only what moves pixels: their colours must stay for a test to recognise them."""
    return SharedTransforms(
        [s for s in steps_of(description) if not isinstance(s, A.ImageOnlyTransform)]
    )


def cells(seed: int, size: tuple[int, int] = (128, 160)) -> Bytes:
    """Labels in cells of 16 pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 19, (size[0] // 16, size[1] // 16)).astype(np.uint8)
    return coarse.repeat(16, 0).repeat(16, 1)


def shown(labels: Bytes) -> Bytes:
    """An image that tells its labels: 13 grey levels apart, never black."""
    return np.repeat(labels[..., None] * 13 + 10, 3, axis=2).astype(np.uint8)


def within_a_cell(labels: Bytes) -> NDArray[np.bool_]:
    """Pixels with two pixels of their own label around: at the edge of a cell, images blend."""
    around = np.ones((5, 5), np.uint8)
    framed = np.pad(labels, 2, constant_values=VOID)
    same = cv2.erode(framed, around) == cv2.dilate(framed, around)
    return np.asarray(same[2:-2, 2:-2] & (labels != VOID), bool)


@pytest.mark.parametrize('description', DESCRIPTIONS, ids=lambda d: str(d['kind']))
def test_images_stay_on_their_labels_and_members_on_each_other(
    description: dict[str, Any],
) -> None:
    transforms = moving(description)
    rows, columns = description['crop']
    first, second = cells(1), cells(2)
    for seed in range(40):
        members = transforms(
            [(shown(first), first), (shown(second), second)], np.random.default_rng(seed)
        )
        for image, labels in members:
            assert image.shape == (rows, columns, 3) and image.dtype == np.uint8
            assert labels.shape == (rows, columns) and labels.dtype == np.uint8
            inside = within_a_cell(labels)
            assert inside.mean() > 0.05
            off = np.abs(image[..., 0].astype(int) - (labels.astype(int) * 13 + 10))
            assert off[inside].max() <= 1
        # The joint labels of a place occurred together before.
        together = (members[0][1] != VOID) & (members[1][1] != VOID)
        now = set(zip(members[0][1][together], members[1][1][together], strict=True))
        assert now <= set(zip(first.ravel(), second.ravel(), strict=True))
        assert ((members[0][1] == VOID) == (members[1][1] == VOID)).all()


@pytest.mark.parametrize('description', DESCRIPTIONS, ids=lambda d: str(d['kind']))
def test_equal_members_stay_equal_under_all_that_is_drawn(description: dict[str, Any]) -> None:
    transforms = SharedTransforms(steps_of(description))
    labels = cells(1)
    changed = 0
    for seed in range(25):
        first, second = transforms([(shown(labels), labels)] * 2, np.random.default_rng(seed))
        assert (first[0] == second[0]).all()
        assert (first[1] == second[1]).all()
        alone = transforms([(shown(labels), labels)], np.random.default_rng(seed))
        assert (alone[0][0] == first[0]).all()
        levels = {13 * label + 10 for label in range(19)}
        changed += len(set(np.unique(first[0])) - levels) > 0
    assert changed > 12 or description['kind'] == 'multishift_deeplab'


@pytest.mark.parametrize('description', DESCRIPTIONS, ids=lambda d: str(d['kind']))
def test_fill_is_black_and_void_never_a_class(description: dict[str, Any]) -> None:
    transforms = moving(description)
    white, seven = np.full((72, 90, 3), 255, np.uint8), np.full((72, 90), 7, np.uint8)
    filled = 0
    for seed in range(60):
        ((image, labels),) = transforms([(white, seven)], np.random.default_rng(seed))
        assert set(np.unique(labels)) <= {7, VOID}
        assert (labels[(image == 0).all(2)] == VOID).all()
        assert (image[labels == 7] > 0).all()
        filled += bool((labels == VOID).any())
    assert filled > 20 or description['kind'] == 'multishift_deeplab'


def test_crop_larger_than_the_image_is_padded_with_void() -> None:
    transforms = SharedTransforms(steps_of({'kind': 'multishift_deeplab'}))
    labels = cells(1)
    ((image, padded),) = transforms([(shown(labels), labels)], np.random.default_rng(0))
    assert image.shape == (700, 700, 3)
    assert (padded != VOID).sum() == labels.size


def test_transforms_are_drawn_independently_of_each_other() -> None:
    flips = SharedTransforms([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)])
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    seen = Counter(
        int(flips([(shown(labels), labels)], np.random.default_rng(seed))[0][1][0, 0])
        for seed in range(200)
    )
    assert sorted(seen) == [0, 1, 2, 3]
    assert min(seen.values()) > 25


@pytest.mark.parametrize('chain', ['weather', 'mask2former'])
def test_same_random_state_gives_the_same_bytes_whatever_came_before(chain: str) -> None:
    transforms = SharedTransforms(weather() if chain == 'weather' else steps_of(DESCRIPTIONS[1]))
    image = np.random.default_rng(3).integers(0, 256, (128, 160, 3), np.uint8)
    labels = cells(1)
    seeds = list(range(25))
    once = [transforms([(image, labels)], np.random.default_rng(s))[0] for s in seeds]
    again = [transforms([(image, labels)], np.random.default_rng(s))[0] for s in seeds[::-1]]
    for first, second in zip(once, again[::-1], strict=True):
        assert (first[0] == second[0]).all()
        assert (first[1] == second[1]).all()
    assert len({first[0].tobytes() for first in once}) > 15


def test_rule_aug_is_the_paper_s() -> None:
    names = ['ColorJitter', 'GaussianBlur', 'Sharpness', 'AutoContrast', 'Equalize', 'OneOf']
    names += ['Rotate', 'HorizontalFlip', 'VerticalFlip', 'RandomCrop']
    made = steps_of({'kind': 'rule_aug'})
    assert [type(step).__name__ for step in made] == names
    assert [step.p for step in made] == [0.5] * 9 + [1.0]
    still = steps_of({'kind': 'rule_aug', 'color': False})
    assert [type(step).__name__ for step in still] == names[5:]
    # Both flips together: three images of four are turned over in some way.
    flips = SharedTransforms([s for s in made if isinstance(s, A.HorizontalFlip | A.VerticalFlip)])
    labels = cells(1)
    turned = [
        bool((flips([(shown(labels), labels)], np.random.default_rng(s))[0][1] != labels).any())
        for s in range(300)
    ]
    assert 0.68 < np.mean(turned) < 0.82


def test_weather_changes_the_image_and_leaves_the_labels() -> None:
    transforms = SharedTransforms(weather())
    image, labels = shown(cells(1)), cells(1)
    before = image.copy()
    for seed in range(20):
        ((changed, same),) = transforms([(image, labels)], np.random.default_rng(seed))
        assert (same == labels).all()
        assert np.abs(changed.astype(int) - image).mean() > 2
    assert (image == before).all()


def test_fog_thickens_towards_the_horizon() -> None:
    black = np.zeros((100, 4, 3), np.uint8)
    fog = Fog((0.5, 0.5), p=1.0)
    done = fog.apply(black, density=0.5, horizon=0.4, air=200.0)[:, 0, 0].astype(int)
    assert (np.diff(done) <= 0).all()
    assert done[55] == 100  # 0.15 of the height below the horizon: half of it is air
    assert done[99] < 40
    assert done[0] == done[45] == 175


def test_sharpness_has_the_image_in_the_middle() -> None:
    image = np.random.default_rng(0).integers(60, 190, (20, 20, 3), np.uint8)
    sharpness = Sharpness((0.0, 2.0), p=1.0)
    smooth, same, sharp = (sharpness.apply(image, factor) for factor in (0.0, 1.0, 2.0))
    assert (same == image).all()
    assert smooth.std() < image.std() < sharp.std()
    center = image[4:7, 4:7].astype(float).sum((0, 1)) + 4 * image[5, 5].astype(float)
    np.testing.assert_allclose(smooth[5, 5], center / 13, atol=0.5)


def test_shrinking_labels_takes_the_middle_of_what_becomes_one_pixel() -> None:
    labels = np.zeros((12, 18), np.uint8)
    labels[1::3, 1::3] = 9
    image, small = resized(np.zeros((12, 18, 3), np.uint8), labels, (4, 6))
    assert image.shape == (4, 6, 3)
    assert (small == 9).all()

# SPDX-License-Identifier: Apache-2.0
"""Where novel objects stand, and how large they are there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.sample_drive import CAMERAS, Drive, random_frame
from multishift_training.augmentation.config import PerspectivePlacement, PublishedPlacement
from multishift_training.augmentation.parts import Composition, NovelObject, Rejection, Scene
from multishift_training.augmentation.placement import horizon_row, place

Bytes = NDArray[np.uint8]
PERSPECTIVE = PerspectivePlacement(kind='perspective')
PUBLISHED = PublishedPlacement(kind='published')
ROAD, SIDEWALK, BUILDING = 0, 1, 2


def straight_road(size: tuple[int, int] = (200, 320), horizon: float = 0.45) -> Scene:
    """A road between pavements that narrows towards the horizon; below it, the own bonnet."""
    rows, columns = np.indices(size)
    half_width = (rows - horizon * size[0]) * 1.2
    labels = np.full(size, BUILDING, np.uint8)
    labels[rows > horizon * size[0]] = SIDEWALK
    labels[np.abs(columns - size[1] / 2) < half_width] = ROAD
    labels[-size[0] // 12 :] = VOID
    return Scene('straight', np.zeros((*size, 3), np.uint8), labels)


def shape(rows: int = 90, columns: int = 60, *, picture: bool = True) -> NovelObject:
    """An object that stands on a foot of a third of its width, at its left."""
    mask = np.ones((rows, columns), bool)
    mask[rows // 2 :, columns // 3 :] = False
    looks = np.zeros((rows, columns, 3), np.uint8)
    looks[mask] = (200, 100, 50)
    return NovelObject('thing', 'here', mask, looks if picture else None, None)


def block(rows: int, columns: int) -> NovelObject:
    return NovelObject('block', '', np.ones((rows, columns), bool), None, None)


def box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of a mask, ends included."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def check(composition: Composition, scene: Scene) -> None:
    """What holds for every composition."""
    mask, labels = composition.mask, composition.labels
    assert (labels[mask] == NOVEL).all() and (labels[~mask] == scene.labels[~mask]).all()
    top, bottom, left, right = box(mask)
    assert (mask[top : bottom + 1, left : right + 1] == composition.object.mask).all()
    assert composition.scene is scene


@pytest.mark.parametrize('config', [PERSPECTIVE, PUBLISHED])
def test_the_object_is_labelled_and_fits_its_mask(
    config: PerspectivePlacement | PublishedPlacement,
) -> None:
    scene = straight_road()
    before = scene.labels.copy()
    touched = set()
    for seed in range(150):
        composition = place(config, scene, shape(), np.random.default_rng(seed))
        check(composition, scene)
        picture = composition.object.picture
        assert picture is not None and picture.shape == (*composition.object.mask.shape, 3)
        # Nothing of the black ground mixes into its edges.
        assert np.abs(picture[composition.object.mask].astype(int) - (200, 100, 50)).max() <= 1
        touched |= set(np.unique(before[composition.mask]).tolist())
    assert (scene.labels == before).all()
    assert touched == {ROAD, SIDEWALK, BUILDING, VOID} or config is PERSPECTIVE
    assert touched >= {ROAD, SIDEWALK, BUILDING}


def test_shapes_alone_are_placed() -> None:
    scene = straight_road()
    for config in (PERSPECTIVE, PUBLISHED):
        composition = place(config, scene, shape(picture=False), np.random.default_rng(0))
        assert composition.object.picture is None
        check(composition, scene)


def test_feet_stand_on_the_road() -> None:
    scene = straight_road()
    for seed in range(200):
        mask = place(PERSPECTIVE, scene, shape(), np.random.default_rng(seed)).mask
        bottom = box(mask)[1]
        feet = np.flatnonzero(mask[bottom])
        assert scene.labels[bottom, int(np.median(feet))] == ROAD or 0 in feet or 319 in feet


def test_height_follows_the_perspective() -> None:
    scene = straight_road(size=(400, 640))
    horizon = horizon_row(scene.labels == ROAD)
    assert abs(horizon - 0.45 * 400) < 6
    metres = []
    for seed in range(300):
        mask = place(PERSPECTIVE, scene, block(60, 50), np.random.default_rng(seed)).mask
        top, bottom, left, right = box(mask)
        height = bottom - top + 1
        assert height >= 0.03 * 400 - 1
        metres.append(height * 1.5 / (bottom - horizon))
    found = np.array(metres)
    # Rounding to pixels shifts a height by half a pixel of at least 12.
    assert found.min() > 0.25 * 0.95 and found.max() < 2 * 1.05
    assert found.max() > 1.7 and found.min() < 0.45
    logs = np.log(found)
    assert logs.std() > 0.3


def test_far_objects_are_smaller_than_near_ones() -> None:
    scene = straight_road(size=(400, 640))
    fixed = PerspectivePlacement(kind='perspective', height=(1.0, 1.0))
    ends = []
    for seed in range(60):
        top, bottom, _, _ = box(
            place(fixed, scene, block(50, 50), np.random.default_rng(seed)).mask
        )
        ends.append((bottom, bottom - top + 1))
    ends.sort()
    slopes = np.diff([height for _, height in ends])
    assert (slopes >= -1).all() and ends[-1][1] > 4 * ends[0][1]
    low = PerspectivePlacement(kind='perspective', height=(1.0, 1.0), camera_height=3.0)
    halves = [place(low, scene, block(50, 50), np.random.default_rng(seed)) for seed in range(60)]
    tallest = max(box(c.mask)[1] - box(c.mask)[0] + 1 for c in halves)
    assert tallest < 0.6 * ends[-1][1]


def test_wide_objects_stay_within_twice_the_largest_height() -> None:
    scene = straight_road(size=(400, 640))
    horizon = horizon_row(scene.labels == ROAD)
    for seed in range(60):
        mask = place(PERSPECTIVE, scene, block(10, 60), np.random.default_rng(seed)).mask
        _, bottom, left, right = box(mask)
        assert (right - left + 1) * 1.5 / (bottom - horizon) < 4 * 1.1


def test_half_of_an_object_is_always_seen() -> None:
    labels = np.full((200, 320), BUILDING, np.uint8)
    labels[110:, :3] = ROAD
    labels[110:, -3:] = ROAD
    scene = Scene('edges', np.zeros((200, 320, 3), np.uint8), labels)
    for seed in range(60):
        composition = place(PERSPECTIVE, scene, block(40, 40), np.random.default_rng(seed))
        check(composition, scene)
        top, bottom, left, right = box(composition.mask)
        assert left == 0 or right == 319
        assert 2 * (right - left + 1) + 2 >= bottom - top + 1


def test_estimated_horizons() -> None:
    drive = Drive(3, seconds=8.0, size=(180, 320))
    assert drive.intrinsics(CAMERAS[0]).cy == pytest.approx(0.47 * 180)
    frames = [drive.render(CAMERAS[0], t).labels for t in (0.0, 4.0)]
    errors = [abs(horizon_row(labels == ROAD) / 180 - 0.47) for labels in frames]
    assert max(errors) < 0.06
    # A few stray pixels are no road, and no horizon lies below the middle.
    ground = np.zeros((100, 200), bool)
    ground[52:] = True
    ground[5, 7] = True
    assert horizon_row(ground) == pytest.approx(50)
    ground[:70] = False
    assert horizon_row(ground) == 50
    assert horizon_row(np.zeros((100, 200), bool)) == 50


@pytest.mark.parametrize('size', [(1024, 2048), (512, 1024), (360, 480)])
def test_published_sizes(size: tuple[int, int]) -> None:
    scene = straight_road(size)
    scale = size[0] / 1024
    for sides, longest in (((40, 30), 200), ((300, 250), 300), ((700, 900), 500)):
        for seed in range(4):
            composition = place(PUBLISHED, scene, block(*sides), np.random.default_rng(seed))
            top, bottom, left, right = box(composition.mask)
            whole = bottom < size[0] - 1 and right < size[1] - 1
            found = max(bottom - top, right - left) + 1
            assert abs(found - longest * scale) <= 1 or (not whole and found < longest * scale)
            assert whole or top > 0 or left > 0


def test_published_centre_lies_on_the_road_away_from_borders() -> None:
    scene = straight_road((1024, 2048))
    for seed in range(40):
        composition = place(PUBLISHED, scene, block(200, 200), np.random.default_rng(seed))
        top, bottom, left, right = box(composition.mask)
        row, column = (top + bottom + 1) // 2, (left + right + 1) // 2
        assert scene.labels[row, column] == ROAD
        assert 150 <= row < 1024 - 150 and 150 <= column < 2048 - 150


def test_published_margin_shrinks_where_it_must() -> None:
    labels = np.full((1024, 2048), BUILDING, np.uint8)
    labels[1000:, 1000:1010] = ROAD
    scene = Scene('low', np.zeros((1024, 2048, 3), np.uint8), labels)
    composition = place(PUBLISHED, scene, block(200, 200), np.random.default_rng(0))
    top, bottom, left, right = box(composition.mask)
    assert bottom == 1023 and 1000 <= top + 100 < 1024 - 20
    labels[:] = BUILDING
    labels[1020:] = ROAD
    with pytest.raises(Rejection, match='no drivable ground'):
        place(PUBLISHED, scene, block(200, 200), np.random.default_rng(0))


@pytest.mark.parametrize('config', [PERSPECTIVE, PUBLISHED])
def test_rejections(config: PerspectivePlacement | PublishedPlacement) -> None:
    scene = straight_road()
    empty = block(5, 5)._replace(mask=np.zeros((5, 5), bool))
    with pytest.raises(Rejection, match='object is empty'):
        place(config, scene, empty, np.random.default_rng(0))
    bare = scene._replace(labels=np.where(scene.labels == ROAD, SIDEWALK, scene.labels))
    with pytest.raises(Rejection, match='no drivable ground'):
        place(config, bare, shape(), np.random.default_rng(0))


def test_an_object_that_covers_the_image_is_rejected() -> None:
    scene = straight_road()
    large = PerspectivePlacement(kind='perspective', height=(3.0, 3.0))
    shares = []
    for seed in range(40):
        try:
            composition = place(large, scene, block(50, 50), np.random.default_rng(seed))
            assert composition.mask.mean() <= 0.5
        except Rejection as rejection:
            assert rejection.reason == 'object covers the image'
            shares.append(rejection.figures['share'])
    assert 0 < len(shares) < 40 and min(shares) > 0.5


def test_an_object_half_of_which_never_fits_is_rejected() -> None:
    huge = PerspectivePlacement(kind='perspective', height=(60.0, 60.0))
    with pytest.raises(Rejection, match='object covers the image'):
        place(huge, straight_road(), block(50, 100), np.random.default_rng(0))


def test_a_road_too_far_to_see_an_object_on_is_none() -> None:
    labels = np.full((200, 320), BUILDING, np.uint8)
    labels[95:99] = ROAD
    scene = Scene('far', np.zeros((200, 320, 3), np.uint8), labels)
    assert place(PERSPECTIVE, scene, block(20, 20), np.random.default_rng(0)).mask.any()
    visible = PerspectivePlacement(kind='perspective', min_height=0.1)
    with pytest.raises(Rejection, match='no drivable ground'):
        place(visible, scene, block(20, 20), np.random.default_rng(0))


def test_a_seed_makes_one_composition() -> None:
    frame = random_frame(5, size=(96, 160))
    scene = Scene('5', frame.image, frame.labels)
    for config in (PERSPECTIVE, PUBLISHED):
        first, second, third = (
            place(config, scene, shape(), np.random.default_rng(seed)) for seed in (1, 1, 2)
        )
        assert (first.labels == second.labels).all() and (first.labels != third.labels).any()

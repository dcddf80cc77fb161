# SPDX-License-Identifier: Apache-2.0
"""The procedural generator: any label map becomes a street, the same for the same seed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID
from multishift_training.augmentation.config import ProceduralGenerator
from multishift_training.augmentation.parts import Composition, Generated, NovelObject, Scene
from multishift_training.augmentation.procedural import Procedural, detail, domain, things, view

Bytes = NDArray[np.uint8]
ROWS, COLUMNS = 96, 160
BOX = np.s_[60:80, 70:96]


def street() -> Bytes:
    """Return labels: sky, houses, trees, road, pavement, a car, a person and a pole."""
    labels = np.zeros((ROWS, COLUMNS), np.uint8)
    labels[:45] = 10
    labels[10:52, :50] = 2
    labels[20:52, 120:] = 8
    labels[60:, 130:] = 1
    labels[44:60, 54:76] = 13
    labels[40:62, 100:106] = 11
    labels[15:60, 112:114] = 5
    labels[90:] = VOID
    return labels


def photograph(labels: Bytes) -> Bytes:
    """Return a made-up image: a colour for each class, and a fine structure."""
    colors = np.random.default_rng(5).integers(60, 200, (256, 3))
    fine = np.random.default_rng(6).normal(0, 1, labels.shape)
    fine = np.asarray(cv2.GaussianBlur(fine, (0, 0), 1.2), np.float64) * 90
    return np.clip(colors[labels] + fine[..., None], 0, 255).astype(np.uint8)


def composed(labels: Bytes, *, pictured: bool = False) -> Composition:
    """Put an ellipse into a scene, at BOX or what there is of it."""
    rows, columns = labels.shape
    mask = np.zeros(labels.shape, bool)
    if (rows, columns) == (ROWS, COLUMNS):
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (26, 20)) > 0
        mask[BOX] = ellipse
    else:
        mask[rows // 2 : rows // 2 + max(1, rows // 4), : max(1, columns // 3)] = True
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    shape = mask[top : top + height, left : left + width]
    picture = None
    if pictured:
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, : width // 2] = (250, 20, 20)
        picture[:, width // 2 :] = (20, 20, 250)
    marked = labels.copy()
    marked[mask] = NOVEL
    thing = NovelObject('thing', 'test', shape, picture, None)
    return Composition(Scene('scene', photograph(labels), labels), thing, marked, mask)


def painted(
    composition: Composition, seed: int = 0, share: tuple[float, float] = (0, 1)
) -> Generated:
    painter = Procedural(ProceduralGenerator(kind='procedural', detail=share))
    (result,) = painter.generate([composition], [np.random.SeedSequence(seed)])
    return result


def correlation(one: Bytes, other: Bytes, where: NDArray[np.bool_]) -> float:
    """Return how alike the fine structure of two images is."""
    fine = []
    for image in (one, other):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        fine.append((grey - cv2.GaussianBlur(grey, (0, 0), 4))[where])
    return float(np.corrcoef(*fine)[0, 1])


@pytest.mark.slow
def test_same_seed_same_bytes_whatever_the_threads() -> None:
    composition = composed(street(), pictured=True)
    threads = cv2.getNumThreads()
    first = [painted(composition, seed).image for seed in range(6)]
    try:
        cv2.setNumThreads(4)
        with ThreadPoolExecutor(4) as pool:
            again = list(pool.map(lambda seed: painted(composition, seed).image, range(6)))
    finally:
        cv2.setNumThreads(threads)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    composition = composed(street())
    painter = Procedural(ProceduralGenerator(kind='procedural'))
    seeds = np.random.SeedSequence(3).spawn(3)
    together = painter.generate([composition] * 3, seeds)
    alone = painter.generate([composition], [seeds[2]])[0]
    np.testing.assert_array_equal(together[2].image, alone.image)
    assert together[2].domain == alone.domain


def test_the_scene_is_left_as_it_is() -> None:
    composition = composed(street(), pictured=True)
    before = composition.scene.image.copy(), composition.labels.copy(), composition.mask.copy()
    picture = composition.object.picture
    assert picture is not None
    looks = picture.copy()
    for seed in range(6):
        painted(composition, seed)
    np.testing.assert_array_equal(before[0], composition.scene.image)
    np.testing.assert_array_equal(before[1], composition.labels)
    np.testing.assert_array_equal(before[2], composition.mask)
    np.testing.assert_array_equal(looks, picture)


@pytest.mark.parametrize('label', [*range(len(CITYSCAPES)), 30, VOID])
def test_every_class_alone_fills_an_image(label: int) -> None:
    labels = np.full((48, 64), label, np.uint8)
    for seed in range(3):
        result = painted(composed(labels), seed)
        assert result.image.shape == (48, 64, 3)
        assert result.image.dtype == np.uint8


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (7, 300), (131, 9), (61, 97), (530, 40)])
def test_any_size_and_mix_of_labels(size: tuple[int, int]) -> None:
    labels = np.random.default_rng(1).choice([*range(19), VOID], size).astype(np.uint8)
    for seed in range(4):
        assert painted(composed(labels), seed).image.shape == (*size, 3)


def test_domains_are_all_drawn_and_told_in_words_for_file_names() -> None:
    told = [domain.draw(np.random.default_rng(seed)).words for seed in range(100)]
    assert {words['time'] for words in told} == {'day', 'low-sun', 'dusk', 'night'}
    assert {words['weather'] for words in told} == {'clear', 'cloudy', 'foggy', 'rainy', 'snowy'}
    assert {words['place'] for words in told} == set(domain.PLACES)
    for words in told:
        assert all(c.isalnum() or c == '-' for word in words.values() for c in word)
    assert painted(composed(street()), 3).domain == told[3]


@pytest.mark.slow
def test_seeds_vary_the_whole_image_and_nights_are_dark() -> None:
    composition = composed(street())
    results = [painted(composition, seed, (0, 0)) for seed in range(24)]
    images = np.stack([result.image for result in results]).astype(np.float32)
    assert images.std(axis=0).mean() > 25
    bright: dict[str, list[float]] = {'day': [], 'night': []}
    for result, image in zip(results, images, strict=True):
        bright.get(result.domain['time'], []).append(float(image.mean()))
    assert np.mean(bright['night']) < 0.7 * np.mean(bright['day'])


@pytest.mark.slow
def test_the_object_looks_different_from_seed_to_seed() -> None:
    composition = composed(street())
    inside = np.stack(
        [painted(composition, s).image[composition.mask].mean(axis=0) for s in range(20)]
    )
    assert inside.std(axis=0).min() > 15


@pytest.mark.slow
def test_the_object_stands_out_from_what_was_there() -> None:
    with_object = composed(street())
    without = with_object._replace(mask=np.zeros_like(with_object.mask))
    without.mask[-1, -1] = True
    inner = cv2.erode(with_object.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    apart = []
    for seed in range(8):
        looks = painted(with_object, seed, (0, 0)).image[inner].astype(float)
        road = painted(without, seed, (0, 0)).image[inner].astype(float)
        apart.append(np.abs(looks - road).mean())
    assert np.median(apart) > 12


@pytest.mark.slow
def test_an_own_picture_is_shown_in_about_half_of_the_images() -> None:
    composition = composed(street(), pictured=True)
    shown = 0
    for seed in range(24):
        image = painted(composition, seed).image.astype(int)
        left, right = image[68:72, 74:80].mean((0, 1)), image[68:72, 86:92].mean((0, 1))
        shown += bool(left[0] - left[2] > 8 and right[2] - right[0] > 8)
    assert 5 <= shown <= 19


@pytest.mark.slow
def test_detail_keeps_the_structure_of_the_scene() -> None:
    composition = composed(street())
    road = composition.labels == 0
    kept, drawn = [], []
    for seed in range(8):
        scene = composition.scene.image
        kept.append(correlation(painted(composition, seed, (1, 1)).image, scene, road))
        drawn.append(correlation(painted(composition, seed, (0, 0)).image, scene, road))
    assert np.median(kept) > 0.5
    assert abs(np.median(drawn)) < 0.1


@pytest.mark.slow
def test_without_detail_the_image_of_the_scene_is_not_used() -> None:
    composition = composed(street())
    black = np.zeros_like(composition.scene.image)
    blind = composition._replace(scene=composition.scene._replace(image=black))
    for seed in range(4):
        np.testing.assert_array_equal(
            painted(composition, seed, (0, 0)).image, painted(blind, seed, (0, 0)).image
        )


@pytest.mark.slow
def test_classes_differ_in_looks() -> None:
    labels = street()
    composition = composed(labels)
    apart = []
    for seed in range(8):
        image = painted(composition, seed, (0, 0)).image.astype(float)
        means = [image[composition.labels == label].mean(axis=0) for label in (0, 2, 8, 10)]
        apart += [np.abs(a - b).max() for i, a in enumerate(means) for b in means[:i]]
    assert np.median(apart) > 25


def test_recoloring_moves_means_and_keeps_ratios() -> None:
    labels = np.zeros((80, 80), np.uint8)
    labels[:, 40:] = 2
    scene = np.full((80, 80, 3), 100, np.uint8)
    scene[:, 40:] = 60
    scene[::7, :] += 10
    colors = np.full((256, 3), 50, np.uint8)
    colors[2] = (30, 60, 120)
    keep = np.zeros(256, np.float32)
    done = detail.recolored(scene, labels, colors, keep)
    np.testing.assert_allclose(done[:, :40].mean((0, 1)), 50, atol=4)
    np.testing.assert_allclose(done[:, 40:].mean((0, 1)), (30, 60, 120), atol=6)
    assert done[14, 20, 0] > done[17, 20, 0]
    whole = detail.recolored(scene, labels, colors, np.ones(256, np.float32))
    np.testing.assert_allclose(whole.astype(int), scene, atol=1)


def test_things_are_found_one_by_one() -> None:
    labels = street()
    labels[44:60, 80:90] = 13
    found = things.find(labels)
    assert sorted(thing.label for thing in found) == [5, 11, 13, 13]
    covered = np.zeros(labels.shape, bool)
    for thing in found:
        covered[thing.area][thing.mask > 0] = True
    np.testing.assert_array_equal(covered, np.isin(labels, (5, 11, 13)))


def test_feet_are_the_nearest_ground_below() -> None:
    ground = np.zeros((5, 2), np.uint8)
    ground[3:, 0] = 255
    ground[1, 1] = 255
    rows = view.feet(ground)
    assert rows[:, 0].tolist() == [3, 3, 3, 3, 4]
    assert rows[:, 1].tolist() == [1, 1, 4, 4, 4]


def test_ground_is_nearer_further_down_and_never_behind() -> None:
    eye = view.look(street(), np.random.default_rng(0))
    depth = eye.ground_depth()
    assert (np.diff(depth) <= 0).all()
    assert 0 < depth[-1] < depth[0] <= view.FARTHEST + 1e-3


def test_a_falling_range_of_detail_is_refused() -> None:
    with pytest.raises(ValueError, match='(?s)detail.*smaller first'):
        ProceduralGenerator(kind='procedural', detail=(0.9, 0.1))

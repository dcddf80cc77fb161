# SPDX-License-Identifier: Apache-2.0
"""What procedural pictures must not look like: figures of crowns, edges, lamps and snow."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_training.augmentation.config import ProceduralGenerator
from multishift_training.augmentation.parts import Composition, NovelObject, Scene
from multishift_training.augmentation.procedural import Procedural, domain, foliage, light, view

Bytes = NDArray[np.uint8]
ROAD, BUILDING, PLANTS, SKY, CAR = 0, 2, 8, 10, 13
SIZE = (180, 240)


def street() -> Bytes:
    """Return labels: road, a house, a large crown before the sky, and a bare tree's branches."""
    labels = np.full(SIZE, SKY, np.uint8)
    labels[90:] = ROAD
    labels[30:90, 200:] = BUILDING
    cv2.circle(labels, (60, 50), 45, PLANTS, cv2.FILLED)
    labels[10:88, 130:180:5] = PLANTS  # of a pixel each
    labels[84:90, :200] = PLANTS
    return labels


def composed(labels: Bytes, image: Bytes | None = None) -> Composition:
    mask = np.zeros(labels.shape, bool)
    mask[-6:, :6] = True
    picture = np.full((*labels.shape, 3), 128, np.uint8) if image is None else image
    marked = np.where(mask, np.uint8(NOVEL), labels)
    thing = NovelObject('thing', 'test', np.ones((6, 6), bool), None, None)
    return Composition(Scene('scene', picture, labels), thing, marked, mask)


def seeds(time: str, *weathers: str, count: int = 8) -> list[int]:
    """Return the first seeds that draw a time of day and one of some weathers."""
    found: list[int] = []
    for seed in range(2000):
        if len(found) == count:
            break
        words = domain.draw(np.random.default_rng(np.random.SeedSequence(seed))).words
        if words['time'] == time and words['weather'] in weathers:
            found.append(seed)
    return found


def painted(composition: Composition, seed: int, share: float = 0.0) -> Bytes:
    painter = Procedural(ProceduralGenerator(kind='procedural', detail=(share, share)))
    (result,) = painter.generate([composition], [np.random.SeedSequence(seed)])
    return result.image


def grey(image: Bytes) -> NDArray[np.float32]:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


@pytest.fixture(scope='module')
def days() -> list[Bytes]:
    composition = composed(street())
    return [painted(composition, seed) for seed in seeds('day', 'clear', 'cloudy')]


def crown() -> NDArray[np.bool_]:
    inner = np.zeros(SIZE, np.uint8)
    cv2.circle(inner, (60, 50), 40, 1, cv2.FILLED)
    return inner > 0


@pytest.mark.slow
def test_crowns_by_day_are_no_camouflage(days: list[Bytes]) -> None:
    """On CamVid's day drives: saturation 0.09 (median), fine structure 1.6 times the blots'."""
    inside = crown()
    saturation, hues, finer = [], [], []
    for image in days:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[inside].astype(float)
        saturation.append(hsv[:, 1].mean() / 255)
        angle = np.exp(2j * np.pi * hsv[:, 0] / 180)
        weight = hsv[:, 1] * hsv[:, 2]  # of what is grey or black, nobody sees the hue
        hues.append(1 - abs((angle * weight).sum() / weight.sum()))
        y = grey(image)
        inner = inside.astype(np.float32)
        coarse, blots = (
            cv2.GaussianBlur(y * inner, (0, 0), sigma)
            / np.maximum(cv2.GaussianBlur(inner, (0, 0), sigma), np.float32(1e-3))
            for sigma in (3, 12)
        )
        finer.append((y - coarse)[inside].std() / (coarse - blots)[inside].std())
    assert np.median(saturation) < 0.25
    assert max(saturation) < 0.45
    assert np.median(hues) < 0.034
    assert np.median(finer) > 1.3


def test_branches_before_the_sky_are_no_speckle(days: list[Bytes]) -> None:
    """A branch of a pixel is seen before the sky, and not as a line of the crown's own dark."""
    labels = street()
    branches = np.zeros(SIZE, bool)
    branches[15:80, 130:180:5] = True
    between = np.zeros(SIZE, bool)
    between[15:80, 132:180:5] = True
    contrast = []
    for image in days:
        y = grey(image)
        step = y[between].mean() - y[branches].mean()
        contrast.append(step / (y[labels == SKY].mean() - y[crown()].mean()))
    assert 0.05 < np.median(contrast) < 0.55


def speckled() -> Bytes:
    """Return the street with specks of void where the crown ends."""
    labels = street()
    rng = np.random.default_rng(0)
    edge = cv2.morphologyEx(
        (labels == PLANTS).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))
    )
    edge[:, 198:] = 0  # the house's
    labels[(edge > 0) & (rng.random(SIZE) < 0.3)] = VOID
    labels[120:150, 100:150] = VOID  # a thing of no class
    return labels


def test_specks_of_void_at_crowns_are_painted_as_what_is_around() -> None:
    labels = speckled()
    filled = foliage.without_specks(labels)
    assert (filled[:84] != VOID).all()
    assert set(np.unique(filled[labels != filled])) == {PLANTS, SKY}
    assert (filled[120:150, 100:150] == VOID).all()
    assert (filled[labels != VOID] == labels[labels != VOID]).all()
    only_void = np.full((9, 9), VOID, np.uint8)
    assert (foliage.without_specks(only_void) == VOID).all()


@pytest.mark.slow
@pytest.mark.parametrize('share', [0.0, 1.0])
def test_specks_of_void_do_not_shine_at_night(share: float) -> None:
    """What was sky in the scene, before a new and dark one."""
    labels = speckled()
    image = np.full((*SIZE, 3), 60, np.uint8)
    image[np.isin(labels, (SKY, VOID))] = 230
    specks = labels == VOID
    specks[84:] = False
    for seed in seeds('night', 'clear', 'cloudy', count=4):
        y = grey(painted(composed(labels, image), seed, share))
        usual = grey(painted(composed(street(), image), seed, share))
        assert abs(y[specks].mean() - usual[specks].mean()) < 6


def test_the_old_sky_does_not_shine_through_crowns_at_night() -> None:
    labels = street()
    gaps = crown() & (np.random.default_rng(0).random(SIZE) < 0.2)
    image = np.full((*SIZE, 3), 60, np.uint8)
    image[(labels == SKY) | gaps] = 230
    for seed in seeds('night', 'clear', 'cloudy', count=4):
        y = grey(painted(composed(labels, image), seed, 1.0))
        assert y[gaps].mean() < 1.3 * y[crown() & ~gaps].mean() + 4


def test_lamps_hang_before_sky_and_houses_and_never_in_crowns() -> None:
    labels = street()
    shown = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        glow = np.zeros((*SIZE, 3), np.uint8)
        light.lamps(glow, labels, view.look(labels, rng), rng)
        lit = glow.any(axis=2)
        shown += int(lit.sum())
        assert not lit[~np.isin(labels, (SKY, BUILDING))].any()
    assert shown > 40 * 10


@pytest.mark.slow
def test_snow_lies_on_the_ground() -> None:
    """By day and by night, near as bright as the sky or brighter; bare ground is half of it."""
    composition = composed(street())
    ground = np.zeros(SIZE, bool)
    ground[110:] = True
    ground[-8:, :8] = False
    sky = street() == SKY
    share = {}
    for weather in ('snowy', 'cloudy'):
        images = [grey(painted(composition, seed)) for seed in seeds('day', weather)]
        share[weather] = [y[ground].mean() / y[sky].mean() for y in images]
    assert min(share['snowy']) > 0.65
    assert np.median(share['snowy']) > 1.4 * np.median(share['cloudy'])


def test_a_crown_stands_in_one_place_and_not_in_bands() -> None:
    ground = np.zeros((100, 160), np.uint8)
    ground[60:] = 255
    ground[60:90, 40:60] = 0  # a car hides the ground under half of the crown
    plants = np.zeros((100, 160), np.uint8)
    plants[10:40, 20:100] = 1
    alone, together = view.feet(ground)[20], view.feet(ground, plants)[20]
    assert np.abs(np.diff(alone[20:100])).max() == 30
    assert np.abs(np.diff(together[20:100])).max() <= 4
    assert (together[:20] == alone[:20]).all()
    assert 60 <= together[20:100].min() and together[20:100].max() <= 90

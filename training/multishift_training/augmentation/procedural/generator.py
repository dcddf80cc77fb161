# SPDX-License-Identifier: Apache-2.0
"""The procedural generator: label map in, street out."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_perception.classes import VOID
from multishift_training.augmentation import config
from multishift_training.augmentation.parts import Composition, Generated
from multishift_training.augmentation.procedural import (
    air,
    camera,
    detail,
    domain,
    foliage,
    light,
    novel,
    sky,
    surfaces,
    things,
    view,
)
from multishift_training.augmentation.procedural.domain import Domain
from multishift_training.augmentation.procedural.labels import PLANTS, SKY, only
from multishift_training.augmentation.procedural.things import Thing
from multishift_training.augmentation.procedural.view import Floats, View

# Void is whatever has no class: what a scene shows there says more than any filler.
_VOID_KEEPS = 2.0


class Procedural:
    """Renders label maps to streets of varied look.

    Attributes:
        version: of the looks that it gives, for the record.
        batch: one: painting several together saves nothing.
    """

    version = 'procedural-2'
    batch = 1

    def __init__(self, settings: config.ProceduralGenerator) -> None:
        """Take the range of detail that is kept."""
        self._detail = settings.detail

    def generate(
        self, compositions: Sequence[Composition], seeds: Sequence[np.random.SeedSequence]
    ) -> list[Generated]:
        """Paint an image for each composition; each depends on its own seed alone."""
        return [
            self._paint(composition, np.random.default_rng(seed))
            for composition, seed in zip(compositions, seeds, strict=True)
        ]

    def _paint(self, composition: Composition, rng: np.random.Generator) -> Generated:
        drawn = domain.draw(rng)
        composition = _without_specks(composition)
        eye = view.look(composition.scene.labels, rng)
        image, glow, placed = self._looks(composition, eye, drawn, rng)
        lit, place, depth = _lit(composition, image, glow, placed, eye, drawn, rng)
        if drawn.wet > 0:
            air.mirrored(lit, place, drawn, rng)
        seen = air.hazy(lit, depth, drawn)
        foliage.let_sky_through(seen, composition.labels)
        picture = camera.exposed(seen, rng)
        air.falling(picture, drawn, rng)
        return Generated(camera.taken(picture, rng), '', drawn.words)

    def _looks(
        self, composition: Composition, eye: View, drawn: Domain, rng: np.random.Generator
    ) -> tuple[Bytes, Bytes, list[Thing]]:
        """Paint everything in even light; return it, what shines, and the things in it."""
        labels = composition.scene.labels
        colors = surfaces.palette(rng, drawn)
        image, glow = surfaces.paint(labels, colors, eye, drawn, rng)
        sky.paint(image, labels, eye, drawn, rng)
        found = things.find(labels)
        for thing in found:
            looks, shine = things.paint(thing, rng)
            cv2.copyTo(looks, thing.mask, image[thing.area])
            cv2.copyTo(shine, thing.mask, glow[thing.area])
        if self._detail[1] > 0:
            image = _detailed(image, glow, composition, colors, found, self._detail, rng)
        place = novel.thing(composition)
        cv2.copyTo(novel.paint(composition, place, rng), place.mask, image[place.area])
        glow[composition.mask] = 0
        return image, glow, [*found, place]


def _without_specks(composition: Composition) -> Composition:
    """Return what is to be painted; what is written keeps its labels."""
    scene = composition.scene
    scene = scene._replace(labels=foliage.without_specks(scene.labels))
    labels = np.where(composition.mask, composition.labels, scene.labels)
    return composition._replace(scene=scene, labels=labels)


def _detailed(
    painted: Bytes,
    glow: Bytes,
    composition: Composition,
    colors: Bytes,
    found: Sequence[Thing],
    limits: tuple[float, float],
    rng: np.random.Generator,
) -> Bytes:
    """Blend in the scene's own picture, recoloured: a share for each class and each thing.

    What is painted shines the less, in place, the less is seen of it.
    """
    scene = composition.scene
    overall = float(rng.uniform(*limits))
    share = _parted(overall + rng.normal(0, 0.12, 256), limits)
    share[VOID] = np.clip(_VOID_KEEPS * overall, *limits)
    keep = rng.uniform(0, 0.9, 256)
    keep[list(things.CLASSES)] = rng.uniform(0.6, 1, len(things.CLASSES))
    keep[VOID] = 1
    own = detail.recolored(scene.image, scene.labels, colors, keep.astype(np.float32))
    weight = np.asarray(cv2.LUT(scene.labels, share.astype(np.float32)), np.float32)
    for thing in found:
        own_share = _parted(overall + rng.normal(0, 0.2, 1), limits)
        weight[thing.area][thing.mask > 0] = own_share
    if glow.any():
        cv2.multiply(glow, cv2.merge([1 - weight] * 3), dst=glow, dtype=cv2.CV_8U)
    return np.asarray(cv2.blendLinear(own, painted, weight, 1 - weight), np.uint8)


def _parted(share: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.float64]:
    """Move shares away from a half, as two pictures in one look like neither."""
    return np.clip(0.5 + 2.5 * (share - 0.5), *limits)


def _lit(
    composition: Composition,
    image: Bytes,
    glow: Bytes,
    placed: Sequence[Thing],
    eye: View,
    drawn: Domain,
    rng: np.random.Generator,
) -> tuple[Floats, light.Place, Floats]:
    """Return linear light ``float32 [H,W,3]``, where pixels lie, and their distance in metres."""
    labels = composition.labels
    ground = view.is_ground(labels)
    depth = _depth(labels, ground, placed, eye)
    place = light.locate(eye, depth, ground)
    if drawn.snow > 0:
        image = air.snowed(image, labels, place, drawn, rng)
    lit = _linear(image)
    falls = light.falling(place, placed, eye, drawn, rng)
    whole = np.asarray(cv2.resize(falls, labels.shape[::-1]), np.float32)
    is_sky = only(labels, SKY)
    whole[is_sky > 0] = 1
    if drawn.wet > 0:
        whole[ground > 0] *= np.float32(1 - 0.4 * drawn.wet)
    cv2.multiply(lit, whole, dst=lit)
    if drawn.lamps > 0:
        light.lamps(glow, labels, eye, rng)
        glow[composition.mask] = 0
        light.shine(lit, glow, place.step, drawn)
    return lit, place, depth


def _depth(labels: Bytes, ground: Bytes, placed: Sequence[Thing], eye: View) -> Floats:
    """Return how far ahead each pixel's foot stands, metres ``float32 [H,W]``."""
    by_row = eye.ground_depth()
    depth = by_row[view.feet(ground, only(labels, PLANTS))]
    for thing in placed:
        depth[thing.area][thing.mask > 0] = by_row[thing.area[0].stop - 1]
    depth[labels == SKY] = 2 * view.FARTHEST
    return np.asarray(depth, np.float32)


def _linear(image: Bytes) -> Floats:
    """Return 8-bit colours as linear light, by a gamma of 2."""
    table = np.linspace(0, 1, 256, dtype=np.float32) ** 2
    return np.asarray(cv2.LUT(image, table), np.float32)

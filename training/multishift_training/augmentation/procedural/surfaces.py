# SPDX-License-Identifier: Apache-2.0
"""What has no single shape: ground, walls, plants, and sky, in even light."""

from __future__ import annotations

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.procedural import foliage, street
from multishift_training.augmentation.procedural.colors import Range, between
from multishift_training.augmentation.procedural.domain import Domain
from multishift_training.augmentation.procedural.facades import row_of_houses
from multishift_training.augmentation.procedural.labels import (
    BUILDING,
    FENCE,
    GROUND,
    PLANTS,
    ROAD,
    SIDEWALK,
    SKY,
    TERRAIN,
    WALL,
    only,
)
from multishift_training.augmentation.procedural.noise import fractal, tiled
from multishift_training.augmentation.procedural.view import View

_TILE = 512

# Ranges of 8-bit RGB by class; a range runs along the line between its two colours.
_RANGES: dict[int, Range] = {
    ROAD: ((62, 62, 64), (150, 148, 144)),
    SIDEWALK: ((105, 98, 92), (190, 182, 172)),
    BUILDING: ((90, 80, 75), (200, 190, 175)),
    WALL: ((80, 75, 70), (175, 165, 150)),
    FENCE: ((45, 50, 45), (160, 150, 135)),
    PLANTS: ((40, 48, 35), (98, 108, 80)),
    TERRAIN: ((60, 82, 32), (150, 150, 85)),
}
_FILLER = ((30, 30, 30), (180, 180, 180))
# Deviation of brightness by class, as a share of the mean.
_CONTRAST = {ROAD: 0.09, SIDEWALK: 0.11, WALL: 0.2, FENCE: 0.25, TERRAIN: 0.22}


def palette(rng: np.random.Generator, domain: Domain) -> Bytes:
    """Draw the mean colour of every label value, RGB ``uint8 [256,3]``."""
    table = np.empty((256, 3))
    table[:] = between(rng, _FILLER)
    for label, ends in _RANGES.items():
        table[label] = between(rng, ends)
    autumn = np.array((124, 100, 66)) * rng.uniform(0.6, 1.1)
    for label in (PLANTS, TERRAIN):
        table[label] += (autumn - table[label]) * domain.dryness * 0.8
    sky = np.sqrt(np.clip((domain.zenith + domain.skyline) / 2, 0, 1)) * 255
    table[SKY] = sky
    return np.clip(table, 0, 255).astype(np.uint8)


def paint(
    labels: Bytes, colors: Bytes, view: View, domain: Domain, rng: np.random.Generator
) -> tuple[Bytes, Bytes]:
    """Paint surfaces by their labels.

    Args:
        labels: ``uint8 [H,W]``.
        colors: mean colour of every label value, RGB ``uint8 [256,3]``.
        view: where the camera stands.
        domain: what the image is set in.
        rng: decides everything else.

    Returns:
        Their looks in even light, and what they shine with, both RGB ``uint8 [H,W,3]``.
    """
    image = np.asarray(cv2.LUT(cv2.merge([labels] * 3), colors[None]), np.uint8)
    glow = np.zeros_like(image)
    texture = np.full(labels.shape, 128, np.uint8)
    upright = _rows(labels, (BUILDING, WALL, FENCE))
    if upright is not None:
        maps = street.upright(view, upright, rng)
        _houses(image, glow, labels, maps, domain, rng)
        _rough(texture, labels, maps, rng)
    foliage.paint(image, texture, labels, rng)
    ground = _rows(labels, GROUND)
    if ground is not None:
        _ground(texture, labels, street.ground(view, ground), rng)
    grain = tiled(fractal(rng, 256, 32, 0.9), (view.rows, view.columns), rng)
    cv2.addWeighted(texture, 1, grain, 0.12, -0.12 * 128, dst=texture)
    cv2.multiply(image, cv2.merge([texture] * 3), dst=image, scale=1 / 128)
    return image, glow


def _rows(labels: Bytes, classes: tuple[int, ...]) -> tuple[int, int] | None:
    """Return first and last row (exclusive) of some classes; none where there are none."""
    table = np.zeros(256, np.uint8)
    table[list(classes)] = 1
    _, top, _, height = cv2.boundingRect(cv2.LUT(labels, table))
    return (top, top + height) if height else None


def _houses(
    image: Bytes,
    glow: Bytes,
    labels: Bytes,
    maps: street.Maps,
    domain: Domain,
    rng: np.random.Generator,
) -> None:
    area = slice(*maps.area)
    mask = only(labels[area], BUILDING)
    if not mask.any():
        return
    scale = int(np.clip(labels.shape[0] / 60, 5, 18))
    houses = row_of_houses(rng, domain.words['place'], scale)
    start = float(rng.uniform(0, 96))
    cv2.copyTo(maps.hang(houses.color, scale, start), mask, image[area])
    if domain.lamps > 0:
        cv2.copyTo(maps.hang(houses.glow, scale, start), mask, glow[area])


def _rough(texture: Bytes, labels: Bytes, maps: street.Maps, rng: np.random.Generator) -> None:
    """Roughen walls and fences."""
    scale = labels.shape[0] / 26
    area = slice(*maps.area)
    stains = maps.hang(fractal(rng, _TILE, 4, 0.8), scale)
    for label in (WALL, FENCE):
        _set(texture[area], labels[area], label, stains)


def _ground(texture: Bytes, labels: Bytes, maps: street.Maps, rng: np.random.Generator) -> None:
    """Give the ground stains and grain, the road its markings, and the pavement its joints."""
    scale = 16.0
    area = slice(*maps.area)
    noise = fractal(rng, _TILE, 4, 0.75)
    look = maps.hang(np.dstack([noise, _markings(rng), _paving(rng)]), scale)
    stains, marks, joints = (np.ascontiguousarray(look[..., n]) for n in range(3))
    for label in GROUND:
        _set(texture[area], labels[area], label, stains)
    for label, over in ((ROAD, marks), (SIDEWALK, joints)):
        mask = only(labels[area], label)
        total = cv2.multiply(texture[area], over, scale=1 / 128)
        cv2.copyTo(total, mask, texture[area])


def _set(texture: Bytes, labels: Bytes, label: int, field: Bytes) -> None:
    """Put a random field where a label is, with the contrast of its class."""
    mask = only(labels, label)
    values = 1 + _CONTRAST[label] * (np.arange(256) - 128) / 42
    table = np.clip(128 * values, 20, 255).astype(np.uint8)
    cv2.copyTo(cv2.LUT(field, table), mask, texture)


def _markings(rng: np.random.Generator) -> Bytes:
    """Draw lanes of a road, 32 m square, as a factor of its brightness times 128."""
    marks = np.full((_TILE, _TILE), 128, np.uint8)
    if rng.random() < 0.25:
        return marks
    white = int(rng.integers(180, 255))
    lane, middle = rng.uniform(3.0, 3.8), rng.uniform(-0.8, 0.8)
    for number in (-1.5, -0.5, 0.5, 1.5):
        left = round((middle + number * lane) * 16) % _TILE
        solid = abs(number) > 1 or rng.random() < 0.25
        for start in range(0, _TILE, 128):
            marks[start : start + (128 if solid else 50), left : left + 2] = white
    return marks


def _paving(rng: np.random.Generator) -> Bytes:
    """Draw joints between slabs, likewise."""
    joints = np.full((_TILE, _TILE), 128, np.uint8)
    step, dark = int(rng.choice([8, 16, 32])), int(rng.integers(90, 128))
    joints[::step] = dark
    joints[:, ::step] = dark
    return joints

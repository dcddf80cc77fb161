# SPDX-License-Identifier: Apache-2.0
"""The light of a sample: sun and sky, shadows, and electric light by night."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.procedural.domain import Domain
from multishift_training.augmentation.procedural.labels import BUILDING, SKY
from multishift_training.augmentation.procedural.noise import fractal
from multishift_training.augmentation.procedural.things import Thing
from multishift_training.augmentation.procedural.view import CAMERA_HEIGHT, Floats, View


class Place(NamedTuple):
    """Where pixels lie in the street; on a coarse grid, as light is smooth.

    Attributes:
        step: pixels of the image to one of the grid.
        right: metres to the right of the camera, ``float32 [h,w]``.
        ahead: metres ahead, likewise; of what stands upright, those of its foot.
        ground: whether it is ground, ``bool [h,w]``.
    """

    step: int
    right: Floats
    ahead: Floats
    ground: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def locate(view: View, depth: Floats, ground: Bytes) -> Place:
    """Return the coarse grid of an image whose pixels are ``depth`` metres ahead."""
    step = max(1, view.rows // 256)
    ahead = np.ascontiguousarray(depth[::step, ::step])
    return Place(step, ahead * view.lateral()[None, ::step], ahead, ground[::step, ::step] > 0)


def falling(
    place: Place, things: Sequence[Thing], view: View, domain: Domain, rng: np.random.Generator
) -> Floats:
    """Return the light that falls on each pixel of the grid, linear RGB ``float32 [h,w,3]``."""
    touch, cast = _shadows(place, things, domain)
    day = np.where(place.ground, _on_ground(place, domain, rng) * cast, _on_walls(place, domain))
    light = domain.ambient + domain.sun * day[..., None].astype(np.float32)
    if domain.lamps > 0:
        light = light + _electric(place, domain, rng)
    touch = np.where(place.ground, touch, np.float32(1))
    return np.asarray(light * touch[..., None], np.float32)


def lamps(glow: Bytes, labels: Bytes, view: View, rng: np.random.Generator) -> None:
    """Draw the street's lamps into what shines, RGB ``uint8 [H,W,3]``.

    They hang before the sky and before houses; whatever else the labels ``uint8 [H,W]`` show at
    their place stands before them, the crowns of trees first of all.
    """
    hung = np.isin(np.arange(256), (SKY, BUILDING)).astype(np.uint8)
    color = (rng.uniform((255, 170, 80), (255, 240, 230))).tolist()
    right = float(rng.uniform(4, 8))
    for ahead in np.arange(float(rng.uniform(8, 20)), 120, float(rng.uniform(14, 28))):
        for side in (-right, right):
            x = view.centre + view.focal * side / ahead
            y = view.horizon - view.focal * (6 - CAMERA_HEIGHT) / ahead
            radius = max(1, round(0.14 * view.focal / ahead))
            left, top = max(0, round(x) - radius - 1), max(0, round(y) - radius - 1)
            area = np.s_[top : max(0, round(y) + radius + 2), left : max(0, round(x) + radius + 2)]
            if not labels[area].size:
                continue
            lamp = glow[area].copy()
            middle = (round(x) - left, round(y) - top)
            cv2.circle(lamp, middle, radius, color, cv2.FILLED, cv2.LINE_AA)
            cv2.copyTo(lamp, cv2.LUT(labels[area], hung), glow[area])


def _on_ground(place: Place, domain: Domain, rng: np.random.Generator) -> Floats:
    """Return how much of the sun reaches the ground between houses and trees."""
    tile = fractal(rng, 256, 8, 0.7)
    along, across = place.right * np.float32(6), place.ahead * np.float32(6)
    noise = cv2.remap(tile, along, across, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
    blots = (noise.astype(np.float32) - 128) / 42
    edge = np.float32(rng.uniform(-4, 10))
    house = (edge - np.sign(domain.side) * place.right) * 2 + blots * np.float32(rng.uniform(0, 2))
    leaf = (blots + np.float32(rng.uniform(-0.5, 3))) * 3
    return np.asarray(np.clip(house, 0, 1) * np.clip(leaf, 0.15, 1), np.float32)


def _on_walls(place: Place, domain: Domain) -> Floats:
    """Return how much of the sun reaches what stands upright: more where it faces the sun."""
    toward = -domain.side * np.sign(place.right) * np.clip(np.abs(place.right) / 3, 0, 1)
    return np.asarray(np.clip(0.6 + 0.55 * toward, 0.1, 1), np.float32)


def _shadows(place: Place, things: Sequence[Thing], domain: Domain) -> tuple[Floats, Floats]:
    """Return what is left of all light where things touch the ground, and of the sun's."""
    touch = np.full(place.ground.shape, 255, np.uint8)
    cast = touch.copy()
    for thing in things:
        tall, wide = (side / place.step for side in thing.mask.shape)
        middle = (thing.area[1].start + thing.area[1].stop) / 2 / place.step
        foot = (thing.area[0].stop - 0.5) / place.step
        thick = max(1, round(0.1 * min(tall, wide)))
        cv2.ellipse(
            touch, (round(middle), round(foot)), (max(1, round(0.55 * wide)), thick),
            0, 0, 360, 110, cv2.FILLED,
        )  # fmt: skip
        reach = -domain.side * 0.9 * tall
        cv2.ellipse(
            cast, (round(middle + reach / 2), round(foot)),
            (max(1, round(wide / 2 + abs(reach) / 2)), thick), 0, 0, 360, 40, cv2.FILLED,
        )  # fmt: skip
    scale = np.float32(1 / 255)
    blurred = (cv2.GaussianBlur(field, (0, 0), 1.5) * scale for field in (touch, cast))
    soft_touch, soft_cast = blurred
    return np.asarray(soft_touch, np.float32), np.asarray(soft_cast, np.float32)


def _electric(place: Place, domain: Domain, rng: np.random.Generator) -> Floats:
    """Return the light of our own headlights and of lamps along the street."""
    right, ahead = place.right, place.ahead
    spread = np.float32(1.6) + np.float32(0.16) * ahead
    beam = np.exp(-((right / spread) ** 2)) * np.clip(ahead / 5, 0.2, 1) / (1 + (ahead / 16) ** 2)
    pitch, first = float(rng.uniform(14, 28)), float(rng.uniform(0, 20))
    between = (ahead - first + pitch / 2) % pitch - pitch / 2
    aside = np.abs(right) - np.float32(rng.uniform(4, 8))
    pool = np.exp(-(between**2 + 0.6 * aside**2) / 45)
    head = np.array((1.0, 0.95, 0.85), np.float32) * np.float32(rng.uniform(0.3, 0.9))
    lamp = rng.uniform((1.0, 0.6, 0.28), (1.0, 0.95, 0.9)) * rng.uniform(0.1, 0.4)
    total = beam[..., None] * head + pool[..., None] * lamp.astype(np.float32)
    return np.asarray(total * np.float32(domain.lamps), np.float32)


def shine(lit: Floats, glow: Bytes, step: int, domain: Domain) -> None:
    """Add what shines, and its halo in the lens, to light ``float32 [H,W,3]``, in place."""
    table = np.linspace(0, 1, 256, dtype=np.float32) ** 2 * np.float32(domain.lamps)
    own = np.asarray(cv2.LUT(glow, table), np.float32)
    cv2.add(lit, own, dst=lit)
    coarse = (max(1, own.shape[1] // step), max(1, own.shape[0] // step))
    small = cv2.resize(own, coarse, interpolation=cv2.INTER_AREA)
    halo = cv2.addWeighted(
        cv2.GaussianBlur(small, (0, 0), 2.0), 0.5, cv2.GaussianBlur(small, (0, 0), 7.0), 0.5, 0
    )
    cv2.add(lit, cv2.resize(halo, lit.shape[1::-1]), dst=lit)

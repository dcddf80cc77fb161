# SPDX-License-Identifier: Apache-2.0
"""The novel object's looks: its own picture, or any material on its shape."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_perception.classes import NOVEL
from multishift_training.augmentation.parts import Composition
from multishift_training.augmentation.procedural.noise import fractal, tiled
from multishift_training.augmentation.procedural.things import Thing

_OWN_PICTURE = 0.5  # of the objects that have one


def thing(composition: Composition) -> Thing:
    """Return where the object is."""
    mask = composition.mask.astype(np.uint8) * 255
    left, top, width, height = cv2.boundingRect(mask)
    area = np.s_[top : top + height, left : left + width]
    return Thing(NOVEL, area, np.ascontiguousarray(mask[area]))


def paint(composition: Composition, place: Thing, rng: np.random.Generator) -> Bytes:
    """Draw the object's looks in even light, RGB ``uint8 [h,w,3]``.

    A picture of its own covers its bounding box in the image, as placing leaves it.
    """
    picture = composition.object.picture
    if picture is not None and rng.random() < _OWN_PICTURE:
        return _recolored(picture, rng)
    size = (place.mask.shape[0], place.mask.shape[1])
    return _shaded(_material(size, rng), place.mask, rng)


def _recolored(picture: Bytes, rng: np.random.Generator) -> Bytes:
    gain = rng.uniform(0.75, 1.2) * rng.uniform(0.9, 1.1, 3)
    return np.clip(picture * gain, 0, 255).astype(np.uint8)


def _material(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a material: one colour, or two by a pattern."""
    first, second = _color(rng), _color(rng)
    pattern = _PATTERNS[int(rng.integers(len(_PATTERNS)))](size, rng)[..., None]
    color = first + (second - first) * pattern
    dirt = tiled(fractal(rng, 64, 4, 0.8), size, rng)[..., None].astype(np.float64)
    return np.asarray(color * (1 + rng.uniform(0.05, 0.3) * (dirt - 128) / 84), np.float64)


def _color(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a colour, mostly a dull one: novelty is not to be known by its brightness."""
    strong = rng.uniform(12, 235, 3)
    grey = rng.uniform(12, 235)
    return np.asarray(grey + (strong - grey) * rng.uniform(0, 1) ** 1.5, np.float64)


def _plain(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.zeros(size)


def _two_tone(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    return (_ramp(size, rng) > rng.uniform(-0.3, 0.3)).astype(np.float64)


def _stripes(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    return (np.sin(_ramp(size, rng) * rng.uniform(6, 30)) > 0).astype(np.float64)


def _checks(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    count = rng.uniform(6, 20)
    one, other = _ramp(size, rng), _ramp(size, rng)
    return ((np.sin(one * count) > 0) ^ (np.sin(other * count) > 0)).astype(np.float64)


def _blots(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    side = int(rng.choice([64, 128, 256]))
    field = tiled(fractal(rng, side, 4, rng.uniform(0.4, 0.9)), size, rng).astype(np.float64)
    return np.asarray(np.clip((field - 128) / rng.uniform(20, 120) + 0.5, 0, 1), np.float64)


def _grain(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Rings as in wood."""
    waves = _ramp(size, rng) * rng.uniform(8, 25) + 3 * _blots(size, rng)
    return np.asarray(0.5 + 0.5 * np.sin(waves), np.float64)


_PATTERNS = (_plain, _plain, _two_tone, _stripes, _checks, _blots, _grain)


def _ramp(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return -1..1 in a random direction across the longer side."""
    angle = float(rng.uniform(0, np.pi))
    half = max(size) / 2
    y = (np.arange(size[0]) - size[0] / 2)[:, None] / half
    x = (np.arange(size[1]) - size[1] / 2)[None, :] / half
    return np.asarray(np.cos(angle) * x + np.sin(angle) * y, np.float64)


def _shaded(color: NDArray[np.float64], mask: Bytes, rng: np.random.Generator) -> Bytes:
    """Round a flat material off: the shape's distance to its edge stands for its height."""
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    reach = max(float(inner.max()), 1.0) * float(rng.uniform(0.15, 1))
    height = np.sqrt(np.clip(inner / reach, 0, 1)) * reach
    sigma = max(0.8, reach / 8)
    smooth = cv2.GaussianBlur(height, (0, 0), sigma)
    slope_x, slope_y = cv2.Sobel(smooth, -1, 1, 0) / 8, cv2.Sobel(smooth, -1, 0, 1) / 8
    side = float(rng.uniform(-1, 1))
    toward = (-side * slope_x + slope_y + 0.6) / np.sqrt(slope_x**2 + slope_y**2 + 1)
    strength = float(rng.uniform(0.2, 0.6))
    fall = np.linspace(1.08, 0.85, mask.shape[0])[:, None]
    shade = (1 + strength * (toward - 0.6)) * fall
    return np.asarray(np.clip(color * shade[..., None], 0, 255), np.uint8)

# SPDX-License-Identifier: Apache-2.0
"""Things that a scene holds one by one: which there are, and what they look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.procedural.labels import (
    BICYCLE,
    BUS,
    CAR,
    MOTORCYCLE,
    PERSON,
    POLE,
    RIDER,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    TRAIN,
    TRUCK,
    only,
    present,
)

# Smaller ones keep the mean colour of their class.
_LEAST_PIXELS = 12


class Thing(NamedTuple):
    """A connected piece of a class of things.

    Attributes:
        label: its class.
        area: rows and columns of its bounding box.
        mask: its pixels in there, not 0, ``uint8 [h,w]``.
    """

    label: int
    area: tuple[slice, slice]
    mask: Bytes


def find(labels: Bytes) -> list[Thing]:
    """Return the things of a label map ``uint8 [H,W]``, class by class."""
    return [t for label in present(labels) if label in CLASSES for t in _pieces(labels, label)]


def _pieces(labels: Bytes, label: int) -> list[Thing]:
    mask = only(labels, label)
    left, top, width, height = cv2.boundingRect(mask)
    crop = mask[top : top + height, left : left + width]
    _, numbers, boxes, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
    pieces = []
    for number in range(1, len(boxes)):
        x, y, wide, tall, pixels = (int(side) for side in boxes[number])
        if pixels < _LEAST_PIXELS:
            continue
        own = np.asarray(numbers[y : y + tall, x : x + wide] == number).view(np.uint8)
        area = np.s_[top + y : top + y + tall, left + x : left + x + wide]
        pieces.append(Thing(label, area, own))
    return pieces


def paint(thing: Thing, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Draw a thing's looks in even light, and what it shines with: RGB ``uint8 [h,w,3]``."""
    color, glow = _DRAWN[thing.label](rng)
    size = (thing.mask.shape[1], thing.mask.shape[0])
    speckle = rng.normal(1, 0.05, color.shape[:2])[..., None]
    looks = np.clip(color * speckle, 0, 255).astype(np.uint8)
    shine = np.clip(glow, 0, 255).astype(np.uint8)
    return _fit(looks, size), _fit(shine, size)


def _fit(picture: Bytes, size: tuple[int, int]) -> Bytes:
    shrinks = size[0] < picture.shape[1] or size[1] < picture.shape[0]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8)


Drawing = tuple[NDArray[np.float64], NDArray[np.float64]]


def _blank(rows: int, columns: int, color: NDArray[np.float64]) -> Drawing:
    return np.broadcast_to(color, (rows, columns, 3)).copy(), np.zeros((rows, columns, 3))


def _pole(rng: np.random.Generator) -> Drawing:
    color, glow = _blank(4, 16, rng.uniform(40, 170) + rng.normal(0, 10, 3))
    round_off = np.sin(np.linspace(0.3, np.pi - 0.3, 16))
    color *= (0.5 + 0.6 * round_off)[None, :, None]
    return color, glow


def _light(rng: np.random.Generator) -> Drawing:
    color, glow = _blank(48, 20, np.array((38.0, 40.0, 38.0)) + rng.normal(0, 8, 3))
    on = int(rng.integers(3))
    lamps = ((255, 40, 30), (255, 170, 30), (40, 255, 130))
    for number, lamp in enumerate(lamps):
        place = np.s_[4 + 15 * number : 14 + 15 * number, 5:15]
        color[place] = np.array(lamp) * (1.0 if number == on else 0.25)
        if number == on:
            glow[place] = lamp
    return color, glow


def _sign(rng: np.random.Generator) -> Drawing:
    colors = ((200, 30, 30), (30, 70, 170), (235, 200, 40), (225, 225, 225), (30, 110, 60))
    order = rng.permutation(len(colors))
    color, glow = _blank(40, 40, np.array(colors[order[0]], np.float64))
    rim = int(rng.integers(3, 9))
    color[rim:-rim, rim:-rim] = colors[order[1]] if rng.random() < 0.6 else (225, 225, 225)
    top, left = rng.integers(rim, 20, 2)
    color[top : top + 8, left : left + 18] = colors[order[2]]
    return color, glow


def _person(rng: np.random.Generator) -> Drawing:
    color, glow = _blank(64, 24, rng.uniform(15, 210, 3))
    color[32:] = rng.uniform(15, 130) + rng.normal(0, 15, 3)
    color[60:] = rng.uniform(10, 70)
    color[:9] = np.array((205, 150, 120)) * rng.uniform(0.35, 1.15)
    color[:4] = np.array((95, 70, 45)) * rng.uniform(0.2, 1.4)
    if rng.random() < 0.3:  # a bag
        color[18:36, int(rng.integers(0, 16)) :] *= 0.5
    color *= np.linspace(1.1, 0.75, 24)[None, :: int(rng.choice([-1, 1])), None]
    return color, glow


def _cycle(rng: np.random.Generator) -> Drawing:
    color, glow = _blank(40, 40, np.array((40.0, 40.0, 42.0)))
    color += rng.normal(0, 1, (40, 40, 1)) * 25
    color[8:22, 10:30] = rng.uniform(20, 220, 3)
    return color, glow


def _vehicle(rng: np.random.Generator) -> Drawing:
    """Draw the end of a car, as wide and tall as whatever shape it is put into."""
    paintwork = _paintwork(rng)
    color, glow = _blank(60, 80, paintwork)
    color *= np.interp(np.arange(60), (0, 8, 28, 60), (1.25, 1.1, 1.0, 0.6))[:, None, None]
    glass = rng.uniform(20, 70) + rng.normal(0, 5, 3)
    top, bottom = int(rng.integers(4, 9)), int(rng.integers(19, 27))
    inset = int(rng.integers(5, 14))
    window = color[top:bottom, inset : 80 - inset]
    window[:] = glass
    window[: (bottom - top) // 2] *= rng.uniform(1.0, 1.8)
    if rng.random() < 0.5:  # a pillar between two windows
        middle = int(rng.integers(30, 50))
        color[top:bottom, middle : middle + 3] = paintwork * 0.9
    color[47:] *= 0.45
    color[51:, 8:22] = color[51:, 58:72] = rng.uniform(12, 30)
    rear = rng.random() < 0.55
    for start in (4, 66):
        lamp = np.s_[28:34, start : start + 10]
        color[lamp] = (170, 25, 20) if rear else (215, 215, 205)
        glow[lamp] = (255, 30, 15) if rear else (255, 240, 210)
    return color, glow


def _paintwork(rng: np.random.Generator) -> NDArray[np.float64]:
    if rng.random() < 0.65:
        return np.asarray(rng.choice([30, 70, 125, 175, 220]) + rng.normal(0, 9, 3), np.float64)
    strong = rng.uniform(15, 200, 3)
    strong[int(rng.integers(3))] *= 0.4
    return np.asarray(strong, np.float64)


_DRAWN: dict[int, Callable[[np.random.Generator], Drawing]] = {
    POLE: _pole,
    TRAFFIC_LIGHT: _light,
    TRAFFIC_SIGN: _sign,
    PERSON: _person,
    RIDER: _person,
    CAR: _vehicle,
    TRUCK: _vehicle,
    BUS: _vehicle,
    TRAIN: _vehicle,
    MOTORCYCLE: _cycle,
    BICYCLE: _cycle,
}
CLASSES = tuple(_DRAWN)

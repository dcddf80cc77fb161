# SPDX-License-Identifier: Apache-2.0
"""Novel objects alone, on a transparent ground."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.sample_drive.light.weather import weather_of
from multishift_perception.sample_drive.novel.novel_objects import NOVEL_OBJECTS, novel_object
from multishift_perception.sample_drive.paint.canvas import Canvas
from multishift_perception.sample_drive.paint.geometry import Camera
from multishift_perception.sample_drive.paint.light import Light
from multishift_perception.sample_drive.paint.seeding import check_split
from multishift_perception.sample_drive.traffic.actors import draw_novel

DETAIL = 2


def cutout(rng: np.random.Generator, *, split: str, height: int) -> NDArray[np.uint8]:
    """Return a random novel object alone, lit by day: RGBA ``uint8 [height, width, 4]``.

    Args:
        rng: decides kind, looks, light and the direction it is seen from.
        split: one of ``SPLITS``; whose kinds to draw from.
        height: of the picture, pixels; the object fills it from top to bottom.
    """
    check_split(split)
    if height < 1:
        raise ValueError(f'height is {height}; it must be at least 1')
    kind = str(rng.choice(NOVEL_OBJECTS[split]))
    seed = int(rng.integers(2**31))
    thing = novel_object(split, kind, seed)
    tall = float(np.ptp(thing.mesh.vertices[:, 1]))
    distance = 7.0
    focal = DETAIL * height * distance / tall
    side = int(np.ceil(focal * (2 * thing.reach + 0.4) / (distance - thing.reach)))
    side = min(side, 4096)
    camera = Camera(
        side, side, focal, side / 2, side / 2 - focal * (1.4 - tall / 2) / distance,
        0.0, 1.4, -distance, 0.0,
    )  # fmt: skip
    light = Light(weather_of('day'), float(rng.uniform(-np.pi, np.pi)))
    canvas = Canvas(camera, light, np.zeros((side, side, 4), np.uint8), None)
    canvas.surface(VOID, (0.0, 0.0, 0.0))
    foot = np.zeros(3, np.float32)
    draw_novel(canvas, split, kind, seed, foot, float(rng.uniform(-np.pi, np.pi)))
    shown = canvas.labels[canvas.pixels[..., 3]] == NOVEL
    if not shown.any():  # a thin one, seen from its edge, may cover no pixel's centre
        return cutout(rng, split=split, height=height)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    area = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    color = canvas.pixels[area][..., :3].copy()
    alpha = shown[area].astype(np.uint8) * 255
    width = max(1, round(alpha.shape[1] * height / alpha.shape[0]))
    # Colours are averaged over the object only, so that its edge is not darkened.
    weight = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA)
    small = cv2.resize(color, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    small *= (255 / np.maximum(weight, 1).astype(np.float32))[..., None]
    return np.dstack([np.clip(small, 0, 255).astype(np.uint8), weight])

# SPDX-License-Identifier: Apache-2.0
"""Rows of houses, seen square on, to be hung along a street."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.procedural.colors import between
from multishift_training.augmentation.procedural.domain import PLACES
from multishift_training.augmentation.procedural.noise import fractal, tiled

LENGTH, HEIGHT = 96, 24  # metres of a row of houses


class Facades(NamedTuple):
    """A row of houses; its first row of pixels is at the ground.

    Attributes:
        color: RGB ``uint8 [HEIGHT * scale, LENGTH * scale, 3]``.
        glow: light from windows, likewise; black where there is none.
        scale: pixels to a metre.
    """

    color: Bytes
    glow: Bytes
    scale: int


def row_of_houses(rng: np.random.Generator, place: str, scale: int) -> Facades:
    """Draw houses side by side."""
    color = np.zeros((HEIGHT * scale, LENGTH * scale, 3), np.uint8)
    glow = np.zeros_like(color)
    left = 0.0
    while left < LENGTH:
        right = min(left + float(rng.uniform(6, 18)), float(LENGTH))
        area = np.s_[:, round(left * scale) : round(right * scale)]
        _house(color[area], glow[area], rng, place, scale)
        left = right
    dirt = tiled(fractal(rng, 256, 4, 0.7), color.shape[:2], rng)
    strength = float(rng.uniform(0.1, 0.35))
    shade = cv2.addWeighted(dirt, strength, dirt, 0, 128 * (1 - strength))
    worn = cv2.multiply(color, cv2.merge([shade] * 3), scale=1 / 128)
    return Facades(np.asarray(worn, np.uint8), glow, scale)


def _house(color: Bytes, glow: Bytes, rng: np.random.Generator, place: str, scale: int) -> None:
    """Fill the views ``color`` and ``glow`` with one house."""
    wall = between(rng, PLACES[place])
    color[:] = np.clip(wall + rng.normal(0, 8), 0, 255)
    ground_floor = round(float(rng.uniform(2.8, 4.2)) * scale)
    if rng.random() < 0.6:
        color[:ground_floor] = np.clip(wall * rng.uniform(0.5, 1.1), 0, 255)
    floor = round(float(rng.uniform(2.7, 3.6)) * scale)
    pitch = max(2, round(float(rng.uniform(1.6, 3.5)) * scale))
    wide, tall = rng.uniform(0.35, 0.75) * pitch, rng.uniform(0.45, 0.75) * floor
    glass = between(rng, ((28, 30, 33), (95, 105, 115)))
    frame = np.clip(wall * rng.choice([0.6, 1.25]), 0, 255)
    lit = float(rng.uniform(0.1, 0.6))
    base = 0
    while base < color.shape[0]:
        high = tall if base else 0.7 * ground_floor
        bottom = base + 0.22 * floor if base else 0.08 * ground_floor
        for x in range(int(pitch * 0.2), color.shape[1], pitch):
            corners = (x, round(bottom)), (round(x + wide), round(bottom + high))
            pane = glass * rng.uniform(0.7, 1.4)
            cv2.rectangle(color, *corners, tuple(pane.tolist()), cv2.FILLED)
            cv2.rectangle(color, *corners, tuple(frame.tolist()), max(1, scale // 10))
            if rng.random() < lit:
                warm = np.array((255, 190, 110)) * rng.uniform(0.3, 1)
                cv2.rectangle(glow, *corners, tuple(warm.tolist()), cv2.FILLED)
        base += floor if base else ground_floor
        if rng.random() < 0.4:
            color[base : base + max(1, scale // 4)] = frame

# SPDX-License-Identifier: Apache-2.0
"""Draws street furniture: lamps, traffic lights and signs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from multishift_perception.classes import TrainId
from multishift_perception.sample_drive.paint.canvas import Canvas
from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.mesh import Mesh, build, join, turn_matrix
from multishift_perception.sample_drive.paint.seeding import generator
from multishift_perception.sample_drive.paint.solids import box, disc, panel, tubes, upright
from multishift_perception.sample_drive.street.street import LAMP_HEIGHT

METAL = (86, 90, 94)
SIGNS = 96  # how many different ones there are


def lamp(canvas: Canvas, foot: Floats, heading: float) -> None:
    """A street lamp whose arm points to the object's own right."""
    canvas.mesh(_lamp_mesh(), TrainId.POLE, foot, heading, casts=False)
    if canvas.shadows is not None:
        canvas.shadows.cast(_lamp_post(), turn_matrix(heading), foot)
    if canvas.light.weather.lamps > 0.1:
        canvas.mesh(_lamp_head(), TrainId.POLE, foot, heading, casts=False)


@lru_cache(maxsize=1)
def _lamp_post() -> Mesh:
    h = LAMP_HEIGHT
    base, middle = (0, 0, 0), (0, 1.0, 0)
    return tubes([base, base], [(0, h, 0), middle], [0.075, 0.11], [0.06, 0.1], METAL, sides=8)


@lru_cache(maxsize=1)
def _lamp_mesh() -> Mesh:
    h = LAMP_HEIGHT
    arm = tubes([(0, h - 0.1, 0)], [(1.2, h + 0.06, 0)], 0.05, 0.045, METAL, sides=6)
    return join([_lamp_post(), arm, box((1.35, h + 0.02, 0), (0.65, 0.12, 0.3), (70, 72, 74))])


@lru_cache(maxsize=1)
def _lamp_head() -> Mesh:
    at = (1.35, LAMP_HEIGHT - 0.06, 0)
    return box(at, (0.55, 0.07, 0.24), (255, 226, 172), glow=7.0)


@lru_cache(maxsize=1)
def _post() -> Mesh:
    return tubes([(0, 0, 0)], [(0, 3.3, 0)], 0.07, 0.06, METAL, sides=8)


def traffic_light(canvas: Canvas, foot: Floats, heading: float, seed: int, t: float) -> None:
    """A post with three lamps, one of them lit; it faces traffic that comes along +z."""
    canvas.mesh(_post(), TrainId.POLE, foot, heading)
    state = (0, 2, 2, 1)[int(t / 6 + seed % 4) % 4]
    canvas.mesh(_signal(state), TrainId.TRAFFIC_LIGHT, foot, heading)


@lru_cache(maxsize=3)
def _signal(state: int) -> Mesh:
    """The head of a traffic light; ``state`` counts the lit lamp from the top."""
    tones = ((255, 40, 30), (255, 178, 40), (60, 250, 140))
    parts = [
        box((0, 3.0, -0.16), (0.42, 1.15, 0.24), (26, 28, 28)),
        box((0, 3.0, -0.02), (0.56, 1.3, 0.03), (20, 21, 21)),
    ]
    for k, tone in enumerate(tones):
        on = k == state
        color = tone if on else tuple(np.array(tone) * 0.2)
        at = (0, 3.36 - 0.36 * k, -0.295)
        parts.append(disc(at, 0.14, color, facing=(0, 0, -1), layer=1, glow=3.0 if on else 0.0))
    return join(parts)


def sign(canvas: Canvas, foot: Floats, heading: float, seed: int) -> None:
    """A post with one or two sign plates that face traffic along +z."""
    post, plates = _sign(seed % SIGNS)
    canvas.mesh(post, TrainId.POLE, foot, heading)
    canvas.mesh(plates, TrainId.TRAFFIC_SIGN, foot, heading)


@lru_cache(maxsize=SIGNS)
def _sign(index: int) -> tuple[Mesh, Mesh]:
    """Post and plates of a sign."""
    rng = generator('sign', index)
    height = float(rng.uniform(2.3, 2.9))
    post = tubes([(0, 0, 0)], [(0, height, 0)], 0.045, 0.045, (120, 124, 126))
    parts = _plate(rng, height - 0.25)
    if rng.random() < 0.3:
        parts += _plate(rng, height - 1.05)
    return post, join(parts)


def _plate(rng: np.random.Generator, y: float) -> list[Mesh]:
    """A sign plate: prohibition, order, warning, priority, or information."""
    kind = str(rng.choice(['ban', 'order', 'warning', 'stop', 'info', 'priority']))
    red, blue, white = (188, 24, 30), (24, 70, 160), (236, 236, 232)
    back, at = (130, 132, 134), -0.06
    toward = (0.0, 0.0, -1.0)
    radius = 0.40

    def ngon(
        count: int, size: float, color: tuple[int, int, int], layer: float, turn: float
    ) -> Mesh:
        angle = np.arange(count) * (2 * np.pi / count) + turn
        ring = np.stack([size * np.cos(angle), y + size * np.sin(angle), at + 0 * angle], 1)
        last = count - 1
        faces = [[0, i, i + 1, min(i + 2, last)] for i in range(1, last, 2)]
        return build(ring, faces, color, centers=(0, y, 1), layer=layer)

    if kind == 'info':
        w, h = float(rng.uniform(0.5, 0.9)), float(rng.uniform(0.6, 1.0))
        tone = blue if rng.random() < 0.6 else (30, 110, 60)
        return [
            upright((0, y, at), w, h, white, -1, layer=1),
            upright((0, y, at), w - 0.07, h - 0.07, tone, -1, layer=2),
            upright((0, y + 0.08, at), w * 0.4, h * 0.4, white, -1, layer=3),
            upright((0, y, at + 0.01), w, h, back, 1),
        ]
    if kind == 'warning':
        return [
            ngon(3, 0.55, red, 1, np.pi / 2),
            ngon(3, 0.38, white, 2, np.pi / 2),
            upright((0, y + 0.02, at), 0.08, 0.28, (20, 20, 20), -1, layer=3),
            upright((0, y, at + 0.01), 0.5, 0.4, back, 1),
        ]
    if kind == 'priority':
        return [ngon(4, 0.5, white, 1, 0.0), ngon(4, 0.38, (238, 184, 30), 2, 0.0)]
    if kind == 'stop':
        band = upright((0, y, at), 0.52, 0.15, white, -1, layer=3)
        return [ngon(8, 0.44, white, 1, np.pi / 8), ngon(8, 0.40, red, 2, np.pi / 8), band]
    if kind == 'order':
        arrow = upright((0, y, at), 0.1, 0.42, white, -1, layer=3)
        return [
            disc((0, y, at), radius, white, facing=toward, layer=1),
            disc((0, y, at), radius - 0.03, blue, facing=toward, layer=2),
            arrow,
        ]
    return [
        disc((0, y, at), radius, red, facing=toward, layer=1),
        disc((0, y, at), radius - 0.09, white, facing=toward, layer=2),
        panel(
            [[-0.16, y - 0.1, at], [0.16, y - 0.1, at], [0.16, y + 0.1, at], [-0.16, y + 0.1, at]],
            (24, 24, 24), toward, layer=3,
        ),
    ]  # fmt: skip

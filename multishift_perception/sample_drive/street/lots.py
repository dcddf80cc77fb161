# SPDX-License-Identifier: Apache-2.0
"""Draws what lines a street: houses, roofs, walls, fences, hedges and trees."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from multishift_perception.classes import TrainId
from multishift_perception.sample_drive.paint.canvas import Canvas
from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.mesh import build, join
from multishift_perception.sample_drive.paint.seeding import generator
from multishift_perception.sample_drive.paint.solids import box
from multishift_perception.sample_drive.paint.textured import paint_rectangle, paint_sprite
from multishift_perception.sample_drive.paint.textures import (
    TREES,
    Image,
    fencing,
    leaves,
    masonry,
    tree_picture,
)
from multishift_perception.sample_drive.street.facades import (
    VARIANTS,
    facade,
    height_of,
    roof_tiles,
    side_wall,
)
from multishift_perception.sample_drive.street.street import KERB, Lot, Street

HOUSE_DEPTH = 9.0
UP = np.array([0, 1, 0], np.float32)


def draw_lot(canvas: Canvas, street: Street, lot: Lot) -> None:
    """Draw a lot from back to front: house, garden, border."""
    line = street.building_line(lot.side)
    if lot.kind == 'house':
        _house(canvas, street, lot, line, lot.start, lot.end)
        return
    rng = generator('lot', lot.seed)
    if lot.kind == 'garden':
        inset = min(1.5, (lot.end - lot.start) / 6)
        _house(canvas, street, lot, line + lot.setback, lot.start + inset, lot.end - inset)
        rows, count = [line + 0.55 * lot.setback], 2
    else:
        rows, count = [line + 13.0, line + 7.0], 3
    for row in rows:
        for s in np.linspace(lot.start + 1.5, lot.end - 1.5, count):
            seed, u = int(rng.integers(2**31)), lot.side * (row + float(rng.uniform(-1, 1)))
            if rng.random() < 0.75:
                tree(canvas, street.point(float(s), u, KERB), seed)
    _border(canvas, street, lot, line, rng)


def _span(street: Street, lot: Lot, u: float, start: float, end: float) -> tuple[Floats, Floats]:
    """Left corner and extent, as seen from the street, of a front along the lot."""
    a, b = street.point(start, lot.side * u, KERB), street.point(end, lot.side * u, KERB)
    return (b, a - b) if lot.side > 0 else (a, b - a)


def _house(canvas: Canvas, street: Street, lot: Lot, u: float, start: float, end: float) -> None:
    """A house: the sides and roof that can be seen, then its front."""
    height = height_of(lot.variant)
    origin, across = _span(street, lot, u, start, end)
    inward = np.array([lot.side, 0, 0], np.float32)
    rise = UP * height
    distance = canvas.camera.depth_of(*(origin + across / 2)[[0, 2]].tolist())
    level = int(np.clip(np.log2(max(distance, 1) * 22 / canvas.camera.focal), 0, 3))
    lamps = canvas.light.weather.lamps
    threshold = int(256 - 95 * min(lamps * 1.4, 1)) if lamps > 0.1 else 256
    low, high = lot.hidden if lot.side < 0 else lot.hidden[::-1]
    for corner, way, hidden in ((origin, -1.0, low), (origin + across, 1.0, high)):
        if hidden >= height:
            continue
        normal = across / np.linalg.norm(across) * way
        if not street.near_junction(float(corner[2]), 4.0):
            wall = side_wall(lot.variant % 24)
            paint_rectangle(
                canvas, wall, TrainId.BUILDING, corner, inward * HOUSE_DEPTH, rise, normal=normal
            )
            continue
        for k in (1, 0):  # the houses along the crossing street
            front = facade((lot.variant + 9 + 17 * k) % VARIANTS, level)
            begin = corner + inward * (k * 11.0)
            paint_rectangle(
                canvas, front, TrainId.BUILDING, begin, inward * 11.0, rise,
                normal=normal, glow=1.2 * lamps, threshold=threshold,
            )  # fmt: skip
    if lot.seed % 5 < 3:
        _roof(canvas, lot, origin + rise, across, inward)
    out = -np.cross(across, UP)
    out = out / np.linalg.norm(out)
    if float(out[0]) * lot.side > 0:
        out = -out
    front = facade(lot.variant, level)
    paint_rectangle(
        canvas,
        front,
        TrainId.BUILDING,
        origin,
        across,
        rise,
        normal=out,
        glow=1.2 * lamps,
        threshold=threshold,
    )


def draw_crossing(canvas: Canvas, street: Street, junction: float) -> None:
    """Draw trees at the far ends of a crossing street."""
    for side in (-1, 1):
        for k, offset in ((0, -7.0), (1, 7.5), (2, -1.0)):
            u = side * (street.building_line(side) + 30.0 + 14.0 * (k == 2))
            foot = street.point(junction + offset, u, KERB)
            if canvas.camera.sees(float(foot[0]), float(foot[2]), 5.0, 90.0):
                tree(canvas, foot, int(junction * 7) % 91 + 13 * k + side)


def _roof(canvas: Canvas, lot: Lot, eaves: Floats, across: Floats, inward: Floats) -> None:
    """A hipped roof's slopes and chimney, where the front slope can be seen."""
    slope = inward * (HOUSE_DEPTH / 2) + UP * (2.4 + lot.seed % 3 * 0.5)
    normal = np.cross(across, slope)
    normal *= np.sign(normal[1])
    eye = np.array([canvas.camera.x, canvas.camera.y, canvas.camera.z], np.float32)
    if canvas.camera.mirrored or float(normal @ (eye - eaves)) <= 0:
        return
    shift = across * 0.22
    tone = roof_tiles(lot.seed % 12).reshape(-1, 3).mean(0)
    back = inward * HOUSE_DEPTH
    points = [0 * across, across, slope + shift, across + slope - shift, back, across + back]
    middle = across / 2 + inward * 4
    slopes = build(
        np.stack(points), [[0, 1, 3, 2], [0, 4, 4, 2], [1, 5, 5, 3]], tone, centers=middle
    )
    chimney = box(across * 0.3 + slope, (0.9, 2.2, 0.9), (122, 84, 70), layer=-1)
    canvas.mesh(join([slopes, chimney]), TrainId.BUILDING, eaves, casts=False)


def _border(
    canvas: Canvas, street: Street, lot: Lot, line: float, rng: np.random.Generator
) -> None:
    """A wall, fence or hedge between garden and pavement."""
    if lot.border == 'open':
        return
    heights = {'wall': (1.3, 2.3), 'fence': (1.0, 1.7), 'hedge': (0.9, 2.0)}
    height = float(rng.uniform(*heights[lot.border]))
    variant = int(rng.integers(16))
    label = {'wall': TrainId.WALL, 'fence': TrainId.FENCE, 'hedge': TrainId.VEGETATION}[lot.border]
    thick = np.array([lot.side, 0, 0], np.float32) * (0.9 if lot.border == 'hedge' else 0.3)
    normal = np.array([-lot.side, 0, 0], np.float32)
    texture = _repeated(lot.border, variant, max(1, round((lot.end - lot.start) / 6)))
    origin, across = _span(street, lot, line - 0.03, lot.start, lot.end)
    along = across / np.linalg.norm(across)
    end = _repeated(lot.border, variant, 1)[:, :64]
    for corner, facing in ((origin, -along), (origin + across, along)):
        paint_rectangle(canvas, end, label, corner, thick, UP * height, normal=facing)
    if height < canvas.camera.y:
        paint_rectangle(canvas, texture, label, origin + UP * height, across, thick, normal=UP)
    paint_rectangle(canvas, texture, label, origin, across, UP * height, normal=normal)


@lru_cache(maxsize=128)
def _repeated(border: str, variant: int, count: int) -> Image:
    """A border's texture, repeated sideways."""
    bank = {'wall': masonry, 'fence': fencing, 'hedge': leaves}[border]
    return np.ascontiguousarray(np.tile(bank(variant), (1, count, 1)))


def tree(canvas: Canvas, foot: Floats, seed: int) -> None:
    """A tree, as a picture that always faces the camera."""
    variant = seed % TREES
    side = canvas.light.sun_direction
    right = canvas.camera.right
    flipped = bool(side[0] * right[0] + side[2] * right[1] < 0)
    height = 5.2 + 3.6 * (seed // TREES % 17) / 16
    depth = canvas.camera.depth_of(float(foot[0]), float(foot[2]))
    pixels = height * canvas.camera.focal / max(depth, 0.5)
    picture = tree_picture(variant, flipped, int(np.clip(np.log2(330 / pixels), 0, 3)))
    width = height * picture.shape[1] / picture.shape[0] * (0.6 if variant % 4 == 3 else 1.1)
    tint = canvas.light.shade(np.array([[0.3, 0.9, 0.3]], np.float32))[0] * 0.4 + 0.6
    if canvas.shadows is not None:
        canvas.shadows.cast_tree(foot, height, width * 0.38, seed)
    paint_sprite(canvas, picture, TrainId.VEGETATION, foot, (width, height), tint)

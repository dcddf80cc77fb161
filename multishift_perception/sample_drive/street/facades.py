# SPDX-License-Identifier: Apache-2.0
"""House fronts as textures: walls, windows, doors and shop fronts, from a bank of variants."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.seeding import generator
from multishift_perception.sample_drive.paint.textures import Image, fractal

VARIANTS = 56
PIXELS_PER_METER = 32
FLOOR = 3.1
GROUND_FLOOR = 3.7
EAVES = 0.7
WALLS = (
    (206, 188, 158), (222, 212, 192), (188, 150, 118), (164, 92, 70), (142, 80, 62),
    (176, 170, 160), (150, 146, 142), (214, 184, 130), (196, 130, 96), (226, 222, 214),
    (136, 150, 158), (170, 182, 160), (120, 104, 92), (200, 160, 150), (98, 96, 96),
)  # fmt: skip


@lru_cache(maxsize=VARIANTS)
def floors_of(variant: int) -> int:
    """Number of floors that a front shows."""
    return 2 + generator('facade size', variant).choice(4, p=(0.3, 0.32, 0.24, 0.14))


@lru_cache(maxsize=VARIANTS)
def height_of(variant: int) -> float:
    """Height of a front, metres."""
    return GROUND_FLOOR + (floors_of(variant) - 1) * FLOOR + EAVES


@lru_cache(maxsize=VARIANTS)
def width_of(variant: int) -> float:
    """Natural width of a front, metres."""
    return float(generator('facade width', variant).uniform(8.5, 14.0))


@lru_cache(maxsize=4 * VARIANTS)
def facade(variant: int, level: int) -> Image:
    """A front, RGBA ``uint8``, at ``PIXELS_PER_METER / 2 ** level``.

    The fourth channel is 0 on walls and 40..255 on glass: the greater, the sooner it is lit.
    """
    if level > 0:
        full = facade(variant, level - 1)
        size = (max(full.shape[1] // 2, 8), max(full.shape[0] // 2, 8))
        return np.asarray(cv2.resize(full, size, interpolation=cv2.INTER_AREA), np.uint8)
    rng = generator('facade', variant)
    scale = PIXELS_PER_METER
    width, height = round(width_of(variant) * scale), round(height_of(variant) * scale)
    wall = np.array(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.82, 1.06)
    image = _wall(rng, wall, width, height)
    lit = np.zeros((height, width), np.uint8)
    trim = np.clip(wall * rng.choice([0.72, 1.22]), 0, 244)
    top = round(EAVES * scale)
    bays = int(rng.integers(3, 6))
    style = _WindowStyle(rng, width / bays)
    for floor in range(floors_of(variant) - 1):
        y = top + round((floor + 0.16) * FLOOR * scale)
        for bay in range(bays):
            style.draw(rng, image, lit, round((bay + 0.5) * width / bays), y, trim)
        if rng.random() < 0.35:
            band = y + round(0.82 * FLOOR * scale)
            image[band : band + 4] = trim
            image[band + 4 : band + 7] *= 0.66
    _street_level(rng, image, lit, height - round(GROUND_FLOOR * scale), bays, trim, style)
    image[: top // 2] = trim
    image[top // 2 : top // 2 + 6] *= 0.5
    image[:, : rng.integers(2, 6)] *= 0.75
    soot = np.linspace(1.03, 0.9, height)[:, None, None]
    image *= soot
    return np.dstack([np.clip(image, 0, 255).astype(np.uint8), lit])


def _wall(rng: np.random.Generator, tone: Floats, width: int, height: int) -> Floats:
    """Plaster, brick, stone or cladding with dirt."""
    size = 512
    shade = 1 + 0.05 * fractal(rng, size, 1.2)
    kind = rng.choice(['plaster', 'brick', 'stone', 'boards'], p=[0.42, 0.32, 0.16, 0.1])
    rows, cols = np.arange(size)[:, None], np.arange(size)[None]
    if kind in ('brick', 'stone'):
        course, brick = (4, 9) if kind == 'brick' else (16, 32)
        row = rows // course
        column = (cols + (row % 2) * (brick // 2)) // brick
        shade = (
            shade * rng.uniform(0.84, 1.1, (size // course + 1, size // brick + 2))[row, column]
        )
        joint = (rows % course == 0) | ((cols + (row % 2) * (brick // 2)) % brick == 0)
        shade = np.where(joint, shade * (1.14 if kind == 'brick' else 0.8), shade)
    elif kind == 'boards':
        shade = shade * np.where(rows % 7 == 0, 0.8, 1.0)
    tiled = np.tile(shade, (height // size + 1, width // size + 1))[:height, :width]
    return np.asarray(tiled[..., None] * tone, np.float32)


class _WindowStyle:
    """One house's windows: the same frame, sill and panes in every bay."""

    def __init__(self, rng: np.random.Generator, bay: float) -> None:
        self.width = round(bay * rng.uniform(0.36, 0.62))
        self.height = round(PIXELS_PER_METER * rng.uniform(1.3, 1.9))
        self.frame = np.array(rng.choice([236.0, 225.0, 70.0, 46.0])) * rng.uniform(0.9, 1.04, 3)
        self.panes = int(rng.integers(1, 4))
        self.shutters = rng.random() < 0.2
        self.balcony = rng.random() < 0.16
        self.shutter_color = rng.uniform(50, 130, 3)

    def draw(
        self, rng: np.random.Generator, image: Floats, lit: Image, x: int, y: int, trim: Floats
    ) -> None:
        """Draw one window with its upper edge at row ``y``, centred on column ``x``."""
        w, h = self.width, self.height
        x0, x1, y1 = x - w // 2, x - w // 2 + w, y + h
        if self.shutters:
            image[y:y1, max(x0 - w // 2, 0) : x1 + w // 2] = self.shutter_color
            image[y:y1:3, max(x0 - w // 2, 0) : x1 + w // 2] *= 0.8
        image[max(y - 5, 0) : y1 + 3, max(x0 - 4, 0) : x1 + 4] = trim
        image[y:y1, x0:x1] = self.frame
        pane(rng, image, lit, (x0 + 3, y + 3, x1 - 3, y1 - 3))
        for k in range(1, self.panes):
            column = x0 + k * w // self.panes
            image[y:y1, column - 1 : column + 2] = self.frame
        image[y + h // 3 : y + h // 3 + 2, x0:x1] = self.frame
        image[y : y + 5, x0:x1] *= 0.55  # the lintel's shadow
        image[y1 : y1 + 4, max(x0 - 5, 0) : x1 + 5] = np.minimum(trim * 1.1, 245)
        image[y1 + 4 : y1 + 8, max(x0 - 5, 0) : x1 + 5] *= 0.62
        if self.balcony:
            rail = slice(y1 - h // 2, y1 + 2)
            image[rail, max(x0 - 14, 0) : x1 + 14 : 4] = 44
            image[y1 - h // 2 : y1 - h // 2 + 3, max(x0 - 14, 0) : x1 + 14] = 40
            image[y1 + 2 : y1 + 8, max(x0 - 16, 0) : x1 + 16] = 120


def pane(
    rng: np.random.Generator, image: Floats, lit: Image, edges: tuple[int, int, int, int]
) -> None:
    """Fill (left, top, right, bottom) with glass that mirrors the sky, curtains, and light."""
    left, top, right, bottom = edges
    if right - left < 3 or bottom - top < 3:
        return
    ramp = np.linspace(1, 0, bottom - top)[:, None, None] ** 1.5
    sky = np.array([118.0, 140.0, 164.0]) * rng.uniform(0.5, 1.1)
    glass = np.array([34.0, 40.0, 46.0]) * rng.uniform(0.7, 1.5)
    image[top:bottom, left:right] = glass + (sky - glass) * ramp * rng.uniform(0.3, 0.9)
    if rng.random() < 0.45:  # curtains
        part = (right - left) // int(rng.integers(3, 6))
        cloth = rng.uniform(110, 200) * rng.uniform(0.85, 1.0, 3)
        image[top:bottom, left : left + part] = cloth
        image[top:bottom, right - part : right] = cloth * 0.92
    elif rng.random() < 0.3:  # a blind
        image[top : top + (bottom - top) // int(rng.integers(2, 5)), left:right] = 176
    lit[top:bottom, left:right] = int(rng.integers(40, 256))


def _street_level(
    rng: np.random.Generator,
    image: Floats,
    lit: Image,
    top: int,
    bays: int,
    trim: Floats,
    style: _WindowStyle,
) -> None:
    """The ground floor: a shop with an awning and a sign, or a door between windows."""
    height, width = lit.shape
    plinth = height - round(0.5 * PIXELS_PER_METER)
    image[plinth:] = image[plinth:] * 0.55 + 18
    if rng.random() < 0.38:
        sign = rng.uniform(25, 215, 3)
        image[top:height] *= 0.8
        image[top : top + 20, 10:-10] = sign
        for x in range(30, width - 60, int(rng.integers(14, 26))):  # letters, not meant to read
            if rng.random() < 0.7:
                image[top + 6 : top + 15, x : x + 7] = 255 - sign
        cuts = np.linspace(12, width - 12, int(rng.integers(3, 5)) + 1).astype(int)
        for a, b in zip(cuts[:-1], cuts[1:], strict=True):
            image[top + 26 : plinth, a : b - 5] = style.frame * 0.5
            pane(rng, image, lit, (a + 4, top + 30, b - 9, plinth - 3))
            lit[top + 30 : plinth - 3, a + 4 : b - 9] = int(rng.integers(150, 256))
        if rng.random() < 0.5:
            stripes = (np.arange(width - 16) // 12 % 2)[None, :, None]
            cloth = np.where(stripes, rng.uniform(40, 200, 3), 226)
            image[top + 20 : top + 38, 8:-8] = cloth
            image[top + 38 : top + 48, 8:-8] *= 0.5
        return
    door = int(rng.integers(bays))
    for bay in range(bays):
        x = round((bay + 0.5) * width / bays)
        if bay == door:
            w, y = round(0.55 * PIXELS_PER_METER), top + round(0.9 * PIXELS_PER_METER)
            image[y - 6 : height, x - w - 5 : x + w + 5] = trim
            image[y:height, x - w : x + w] = rng.uniform(30, 140, 3)
            image[y : y + 5, x - w : x + w] *= 0.5
            image[y + 14 : y + 40, x - w + 5 : x + w - 5] *= 0.75
            image[y + 46 : height - 8, x - w + 5 : x + w - 5] *= 0.85
            pane(rng, image, lit, (x - w + 2, y - 4, x + w - 2, y + 8))
        else:
            style.draw(rng, image, lit, x, top + round(0.95 * PIXELS_PER_METER), trim)


@lru_cache(maxsize=24)
def side_wall(variant: int) -> Image:
    """The blind side of a house, RGB ``uint8 [160, 160, 3]``, in its front's colour."""
    rng = generator('side wall', variant)
    front = facade(variant % VARIANTS, 2)
    tone = np.median(front[..., :3].reshape(-1, 3), 0) * rng.uniform(0.85, 1.08)
    shade = (1 + 0.07 * fractal(rng, 160, 1.4))[..., None] * np.linspace(1.03, 0.85, 160)[
        :, None, None
    ]
    image: Floats = tone * shade
    if rng.random() < 0.6:
        for x in (40, 100):
            for y in range(14, 130, 36):
                if rng.random() < 0.7:
                    image[y : y + 18, x : x + 12] = rng.uniform(30, 90)
                    image[y + 18 : y + 20, x - 1 : x + 13] = tone * 1.15
    return np.asarray(np.clip(image, 0, 255), np.uint8)


@lru_cache(maxsize=12)
def roof_tiles(variant: int) -> Image:
    """A tiled or slated roof, RGB ``uint8 [96, 256, 3]``."""
    rng = generator('roof', variant)
    tone = np.array(
        [(150, 78, 56), (122, 66, 52), (84, 84, 90), (66, 64, 66), (128, 100, 80)][variant % 5]
    )
    shade = (1 + 0.1 * fractal(rng, 256, 0.8))[:96]
    shade = shade * np.where(np.arange(96) % 6 == 0, 0.72, 1.0)[:, None]
    return np.asarray(np.clip(tone * shade[..., None], 0, 255), np.uint8)

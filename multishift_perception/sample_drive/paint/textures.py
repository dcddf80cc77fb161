# SPDX-License-Identifier: Apache-2.0
"""Procedural textures, made once per process: noise, ground, clouds, leaves, masonry."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.seeding import generator

TILE = 512
FINE_METERS = 5.0
COARSE_METERS = 32.0
STONES = ((150, 84, 62), (184, 172, 152), (132, 124, 116), (168, 128, 98), (120, 72, 60))
TREES = 32  # how many different ones there are

Image = NDArray[np.uint8]


def fractal(rng: np.random.Generator, size: int, power: float) -> Floats:
    """Tileable noise ``float32 [size, size]`` of unit deviation, spectrum 1 / f ** power."""
    fx = np.fft.fftfreq(size)[:, None] * size
    fy = np.fft.rfftfreq(size)[None] * size
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.inf
    spectrum = rng.normal(size=radius.shape) + 1j * rng.normal(size=radius.shape)
    noise = np.fft.irfft2(spectrum / radius**power, (size, size))
    return np.asarray(noise / noise.std(), np.float32)


def paint(canvas: Floats, shape: str, points: NDArray[np.int32], value: float, width: int) -> None:
    """Draw a polygon or polyline that wraps around the tile's borders."""
    for dx in (-TILE, 0, TILE):
        for dy in (-TILE, 0, TILE):
            moved = (points + (dx, dy)).astype(np.int32)
            if shape == 'line':
                cv2.polylines(canvas, [moved], False, value, width, cv2.LINE_AA)
            else:
                cv2.fillPoly(canvas, [moved], value, cv2.LINE_AA)


@lru_cache(maxsize=8)
def fine_ground(variant: int) -> Floats:
    """Brightness factors minus one, ``float32 [TILE, TILE, 3]``: asphalt, paving, grass."""
    rng = generator('fine ground', variant)
    grain = rng.normal(size=(TILE, TILE)).astype(np.float32)
    asphalt = 0.075 * cv2.GaussianBlur(grain, (0, 0), 0.8) / 0.35 + 0.05 * fractal(rng, TILE, 1)
    stones = rng.random((TILE, TILE)) > 0.993
    asphalt += 0.3 * cv2.GaussianBlur(stones.astype(np.float32), (0, 0), 0.9)
    paving = 0.05 * fractal(rng, TILE, 0.8)
    slab = (64, 51, 85, 102)[variant % 4]
    tones = rng.normal(0, 0.07, (TILE // slab + 2, TILE // slab + 2))
    rows, cols = np.arange(TILE) // slab, np.arange(TILE)
    for row in range(TILE // slab + 1):
        shift = (row % 2) * slab // 2 * (variant % 2)
        columns = (cols + shift) // slab % (TILE // slab + 2)
        paving[rows == row] += tones[row, columns]
        joints = (cols + shift) % slab < 2
        paving[np.ix_(rows == row, joints)] -= 0.28
    paving[np.arange(TILE) % slab < 2] -= 0.28
    grass = 0.30 * cv2.GaussianBlur(rng.normal(size=(TILE, TILE)), (0, 0), 1.2) / 0.24
    grass = 0.6 * grass + 0.16 * fractal(rng, TILE, 1.0)
    return np.stack([asphalt, paving, grass], -1).astype(np.float32)


@lru_cache(maxsize=8)
def coarse_ground(variant: int) -> Floats:
    """Brightness factors minus one, ``float32 [TILE, TILE, 3]``: asphalt, paving, grass."""
    rng = generator('coarse ground', variant)
    asphalt = 0.05 * fractal(rng, TILE, 1.3)
    for _ in range(9):  # mended patches, along the street (rows run along it)
        x, y = rng.integers(0, TILE, 2)
        w, h = rng.integers(10, 40), rng.integers(14, 90)
        corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.int32)
        paint(asphalt, 'fill', corners, float(rng.normal(0, 0.13)), 1)
        paint(asphalt, 'line', corners[[0, 1, 2, 3, 0]], -0.22, 1)
    for _ in range(12):  # cracks
        steps = rng.normal(0, 5, (14, 2)) + rng.normal(0, 5, 2)
        crack = (rng.integers(0, TILE, 2) + steps.cumsum(0)).astype(np.int32)
        paint(asphalt, 'line', crack, float(rng.uniform(-0.4, -0.2)), 1)
    stains: Floats = np.zeros((TILE, TILE), np.float32)
    for _ in range(14):  # oil and manholes
        cv2.circle(stains, rng.integers(0, TILE, 2).tolist(), int(rng.integers(3, 9)), -0.2, -1)
    asphalt += np.asarray(cv2.GaussianBlur(stains, (0, 0), 2), np.float32)
    for _ in range(4):
        at = rng.integers(12, TILE - 12, 2).tolist()
        cv2.circle(asphalt, at, 6, -0.42, -1, cv2.LINE_AA)
        cv2.circle(asphalt, at, 4, -0.25, 1, cv2.LINE_AA)
    paving = 0.07 * fractal(rng, TILE, 1.2)
    grass = 0.13 * fractal(rng, TILE, 1.2)
    return np.stack([asphalt, paving, grass], -1).astype(np.float32)


@lru_cache(maxsize=8)
def clouds(variant: int) -> Floats:
    """Tileable cloud density ``float32 [TILE, TILE]`` of unit deviation."""
    rng = generator('clouds', variant)
    return fractal(rng, TILE, 1.65)


@lru_cache(maxsize=8 * TREES)
def tree_picture(variant: int, flipped: bool, level: int) -> Image:
    """A tree lit from the upper right, or left: RGBA ``uint8 [H, W, 4]``, alpha 0 or 255.

    ``level`` halves the size that many times.
    """
    if level > 0:
        full = tree_picture(variant, flipped, level - 1)
        size = (full.shape[1] // 2, full.shape[0] // 2)
        small = np.asarray(cv2.resize(full, size, interpolation=cv2.INTER_AREA), np.uint8)
        weight = np.maximum(small[..., 3:].astype(np.float32), 1) / 255
        small[..., :3] = np.clip(small[..., :3] / weight, 0, 255)
        small[..., 3] = np.where(small[..., 3] > 110, 255, 0)
        return small
    if flipped:
        return np.ascontiguousarray(tree_picture(variant, False, 0)[:, ::-1])
    rng = generator('tree', variant)
    slim = variant % 4 == 3  # a poplar or conifer
    crown, trunk = 320, 40 if slim else int(rng.integers(90, 150))
    color: Floats = np.zeros((crown + trunk, crown, 3), np.float32)
    alpha = np.zeros((crown + trunk, crown), np.uint8)
    _draw_trunk(rng, color, alpha, crown, trunk)
    _draw_crown(rng, color, alpha, crown, slim)
    shown = color * (alpha > 0)[..., None]
    return np.dstack([np.clip(shown, 0, 255).astype(np.uint8), alpha])


def _draw_trunk(
    rng: np.random.Generator, color: Floats, alpha: Image, crown: int, trunk: int
) -> None:
    """Draw a trunk that forks into the crown, rounded by its shading."""
    bark = np.array([94, 80, 66]) * rng.uniform(0.7, 1.15)
    foot, fork = (crown // 2, crown + trunk), (crown // 2 + int(rng.integers(-8, 9)), crown - 60)
    limbs = [(foot, fork, 15), *(
        (fork, (fork[0] + dx, crown - 130 - int(rng.integers(0, 40))), 7) for dx in (-60, -15, 45)
    )]  # fmt: skip
    for start, end, width in limbs:
        for k, tone in enumerate((0.55, 0.78, 1.0, 1.12)):
            shift = k * width // 6
            a, b = (start[0] + shift, start[1]), (end[0] + shift // 2, end[1])
            cv2.line(color, a, b, (bark * tone).tolist(), max(width - 3 * k, 2))
        cv2.line(alpha, start, end, 255, width)
    cv2.line(alpha, (foot[0] - 4, foot[1]), (foot[0] + 6, foot[1]), 255, 20)


def _draw_crown(
    rng: np.random.Generator, color: Floats, alpha: Image, size: int, slim: bool
) -> None:
    """Draw leaves in clumps, the inner and lower ones in shade."""
    count = 1500
    angle, radius = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count))
    wobble = (
        1
        + 0.13 * np.sin(3 * angle + rng.uniform(0, 6))
        + 0.10 * np.sin(5 * angle + rng.uniform(0, 6))
    )
    x, y = radius * np.cos(angle) * wobble, radius * np.sin(angle) * wobble
    if slim:
        x *= 0.22 + 0.5 * (y + 1) / 2
    clump = fractal(rng, 64, 1.3)
    hue = np.array([rng.uniform(54, 96), rng.uniform(86, 116), rng.uniform(32, 52)])
    order = np.argsort(np.hypot(x, y) * -1 + rng.normal(0, 0.25, count))
    for px, py in zip(x[order], y[order], strict=True):
        lump = clump[int((py + 1.5) * 20), int((px + 1.5) * 20)]
        if lump < -1.5 and np.hypot(px, py) > 0.5:
            continue  # gaps that let the sky through
        light = 0.60 + 0.24 * (0.55 * px - 0.85 * py) + 0.15 * lump + rng.normal(0, 0.08)
        at = (int(size / 2 + px * size * 0.39), int(size / 2 + py * size * 0.39))
        axes = (int(rng.integers(4, 10)), int(rng.integers(2, 7)))
        turn = float(rng.uniform(0, 180))
        tone = hue * np.clip(light, 0.2, 1.3) * rng.uniform(0.94, 1.06, 3)
        cv2.ellipse(color, at, axes, turn, 0, 360, tone.tolist(), -1)
        cv2.ellipse(alpha, at, axes, turn, 0, 360, 255, -1)


@lru_cache(maxsize=16)
def leaves(variant: int) -> Image:
    """A hedge's leaves, RGB ``uint8 [128, 256, 3]``."""
    rng = generator('leaves', variant)
    tone = np.array([rng.uniform(48, 84), rng.uniform(80, 108), rng.uniform(28, 46)])
    noise = fractal(rng, 256, 0.7)[:128] + 0.6 * fractal(rng, 256, 1.5)[:128]
    light = 0.72 + 0.17 * noise - np.linspace(-0.12, 0.3, 128)[:, None]
    return np.clip(tone * light[..., None], 4, 255).astype(np.uint8)


@lru_cache(maxsize=16)
def masonry(variant: int) -> Image:
    """A garden wall, RGB ``uint8 [96, 384, 3]``: brick, render or rubble."""
    rng = generator('masonry', variant)
    height, width = 96, 384
    tone = np.array(STONES[variant % len(STONES)]) * rng.uniform(0.85, 1.1)
    shade = 1 + 0.07 * fractal(rng, 384, 1.2)[:height]
    if variant % 3 != 1:
        brick, course = ((16, 6), (36, 18))[variant % 3 // 2]
        for row in range(height // course + 1):
            band = slice(row * course, (row + 1) * course)
            cells = (np.arange(width) + (row % 2) * brick // 2) // brick
            shade[band] *= rng.uniform(0.78, 1.12, width // brick + 3)[cells]
            shade[band, (np.arange(width) + (row % 2) * brick // 2) % brick == 0] *= 1.22
            shade[row * course : row * course + 1] = 1.15
    shade[:8] = 1.12 + 0.03 * rng.normal(size=(8, width))
    shade[8:11] *= 0.6
    shade *= np.linspace(1.04, 0.8, height)[:, None]
    return np.clip(tone * shade[..., None], 0, 255).astype(np.uint8)


@lru_cache(maxsize=16)
def fencing(variant: int) -> Image:
    """A fence, RGB ``uint8 [96, 384, 3]``: boards, palings or dark iron bars."""
    rng = generator('fencing', variant)
    height, width = 96, 384
    column = np.arange(width)
    board = (12, 8, 6)[variant % 3]
    tone = ((138, 104, 72), (196, 192, 182), (52, 58, 54))[variant % 3]
    tones = np.array(tone) * rng.uniform(0.8, 1.15)
    shade = np.repeat(rng.uniform(0.84, 1.1, width // board + 1), board)[:width]
    shade = shade * np.where(column % board < (2, 3, 3)[variant % 3], 0.42, 1.0)
    image = np.tile(shade, (height, 1)) * (1 + 0.05 * fractal(rng, 384, 1)[:height])
    for rail in (12, 70):
        image[rail : rail + 7] = 0.92
        image[rail + 7 : rail + 9] *= 0.6
    image *= np.linspace(1.05, 0.85, height)[:, None]
    return np.asarray(np.clip(tones * image[..., None], 0, 255), np.uint8)


@lru_cache(maxsize=1)
def sensor_noise() -> Floats:
    """Unit noise ``float32 [1024, 1536, 3]``, slightly correlated as after demosaicing."""
    rng = generator('sensor noise')
    noise = rng.standard_normal((1024, 1536, 3), np.float32)
    noise = 0.8 * noise + 0.5 * noise.mean(2, keepdims=True)
    soft = cv2.GaussianBlur(noise, (0, 0), 0.55)
    return np.asarray(soft / soft.std(), np.float32)

# SPDX-License-Identifier: Apache-2.0
"""Random surface patterns for unknown objects: stripes, checks, spots, wood, cloth, fur, metal."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.textures import fractal

SIZE = 128
Image = NDArray[np.uint8]


def any_color(rng: np.random.Generator) -> Floats:
    """A colour that gives nothing away: grey, brown, dull or bright, sRGB ``[3]``."""
    draw = rng.random()
    if draw < 0.25:
        color = np.full(3, rng.uniform(25, 215)) + rng.normal(0, 6, 3)
    elif draw < 0.45:
        color = np.array([118, 88, 62]) * rng.uniform(0.5, 1.7) + rng.normal(0, 9, 3)
    else:
        color = rng.uniform(20, 230, 3)
    return np.clip(color, 12, 238).astype(np.float32)


def one_of(rng: np.random.Generator, *colors: tuple[int, int, int]) -> Floats:
    """One of a few colours, a little brighter or darker."""
    return np.array(colors[rng.integers(len(colors))]) * rng.uniform(0.88, 1.08)


def part_colors(rng: np.random.Generator, count: int) -> Floats:
    """Colours for the parts of one object: one colour, shades of one, or a few."""
    base = any_color(rng)
    draw = rng.random()
    if draw < 0.3:
        return np.tile(base, (count, 1))
    if draw < 0.65:
        return np.clip(base * rng.uniform(0.7, 1.25, (count, 1)), 8, 245)
    palette = np.stack([any_color(rng) for _ in range(3)])
    return np.asarray(palette[rng.integers(0, 3, count)])


def _mixed(mask: Floats, rng: np.random.Generator) -> Floats:
    """Factors that turn the base colour into another one where ``mask`` is 1."""
    other = rng.uniform(0.25, 1.9) * np.exp(rng.normal(0, 0.35, 3))
    return np.asarray(1 + mask[..., None] * (other - 1), np.float32)


def _plain(rng: np.random.Generator) -> Floats:
    return np.ones((SIZE, SIZE, 3), np.float32) * (1 + 0.04 * fractal(rng, SIZE, 1)[..., None])


def _stripes(rng: np.random.Generator) -> Floats:
    rows, cols = np.mgrid[:SIZE, :SIZE]
    period = int(rng.choice([8, 16, 32, 64]))
    kx, ky = ((1, 0), (0, 1), (1, 1), (1, -1))[rng.integers(4)]
    phase = (cols * kx + rows * ky) % period
    return _mixed((phase < period * rng.uniform(0.25, 0.7)).astype(np.float32), rng)


def _checks(rng: np.random.Generator) -> Floats:
    rows, cols = np.mgrid[:SIZE, :SIZE]
    cell = int(rng.choice([8, 16, 32]))
    first = ((rows // cell) % 2).astype(np.float32)
    second = ((cols // cell) % 2).astype(np.float32)
    mask = np.abs(first - second) if rng.random() < 0.5 else (first + second) / 2
    return _mixed(mask, rng)


def _spots(rng: np.random.Generator) -> Floats:
    mask = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(int(rng.integers(8, 40))):
        at = rng.integers(0, SIZE, 2).tolist()
        cv2.circle(mask, at, int(rng.integers(3, 14)), 1.0, -1, cv2.LINE_AA)
    return _mixed(mask, rng)


def _wood(rng: np.random.Generator) -> Floats:
    rows = np.arange(SIZE)[:, None]
    wave = fractal(rng, SIZE, 1.6) * 3
    ring = np.sin((rows + wave * 2) * rng.uniform(0.4, 1.1)) * 0.12
    plank = np.where(rows % int(rng.choice([16, 32, 64])) < 2, 0.5, 1.0)
    return np.repeat(((1 + ring + 0.05 * fractal(rng, SIZE, 0.8)) * plank)[..., None], 3, 2)


def _cloth(rng: np.random.Generator) -> Floats:
    rows, cols = np.mgrid[:SIZE, :SIZE]
    weave = 0.10 * ((rows // 2 + cols // 2) % 2) - 0.05
    return np.repeat((1 + weave + 0.12 * fractal(rng, SIZE, 1.5))[..., None], 3, 2)


def _fur(rng: np.random.Generator) -> Floats:
    hair = cv2.GaussianBlur(rng.normal(size=(SIZE, SIZE)), (0, 0), sigmaX=0.8, sigmaY=4.0)
    patches = (
        _mixed(np.clip(fractal(rng, SIZE, 1.7), 0, 1), rng) if rng.random() < 0.5 else np.ones(3)
    )
    return np.asarray((1 + 0.22 * hair / hair.std())[..., None] * patches, np.float32)


def _metal(rng: np.random.Generator) -> Floats:
    cols = np.arange(SIZE)
    shine = 1 + 0.4 * np.sin(cols * 2 * np.pi / SIZE * rng.integers(1, 4) + rng.uniform(0, 6))
    rust = _mixed((fractal(rng, SIZE, 1.6) > rng.uniform(0.4, 2)).astype(np.float32), rng)
    return np.asarray(shine[None, :, None] * rust, np.float32)


def _gradient(rng: np.random.Generator) -> Floats:
    ramp = np.abs(np.linspace(-1, 1, SIZE, dtype=np.float32))
    mask = np.tile(ramp[:, None] if rng.random() < 0.5 else ramp[None], (SIZE, SIZE))
    return _mixed(mask[:SIZE, :SIZE], rng)


def _print(rng: np.random.Generator) -> Floats:
    image = np.ones((SIZE, SIZE, 3), np.float32)
    for _ in range(int(rng.integers(4, 14))):
        x, y = (int(v) for v in rng.integers(0, SIZE - 10, 2))
        w, h = (int(v) for v in rng.integers(8, 64, 2))
        image[y : y + h, x : x + w] = rng.uniform(0.2, 1.9, 3)
    return image


def _blotches(rng: np.random.Generator) -> Floats:
    return _mixed((fractal(rng, SIZE, rng.uniform(1.2, 2)) > 0).astype(np.float32), rng)


PATTERNS: tuple[Callable[[np.random.Generator], Floats], ...] = (
    _plain, _stripes, _checks, _spots, _wood, _cloth, _fur, _metal, _gradient, _print, _blotches,
)  # fmt: skip


def random_pattern(rng: np.random.Generator) -> Image:
    """A tileable RGB texture ``uint8 [SIZE, SIZE, 3]`` of factors; 128 means 1."""
    factors = PATTERNS[rng.integers(len(PATTERNS))](rng)
    if rng.random() < 0.3:
        factors = factors * (1 + 0.1 * fractal(rng, SIZE, 0.7)[..., None])
    return np.clip(factors * 128, 0, 255).astype(np.uint8)


def soft_grain(rng: np.random.Generator, strength: float, power: float) -> Image:
    """A tileable grey texture of factors around 1, for surfaces that are only a little uneven."""
    factors = 1 + strength * fractal(rng, SIZE, power)
    return np.repeat(np.clip(factors * 128, 0, 255).astype(np.uint8)[..., None], 3, 2)

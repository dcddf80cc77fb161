# SPDX-License-Identifier: Apache-2.0
"""What lies on the ground and hangs in the air: snow, wetness, haze, rain and flakes."""

from __future__ import annotations

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.procedural.domain import Domain
from multishift_training.augmentation.procedural.labels import (
    BUILDING,
    PLANTS,
    ROAD,
    SIDEWALK,
    TERRAIN,
)
from multishift_training.augmentation.procedural.light import Place
from multishift_training.augmentation.procedural.noise import fractal, tiled
from multishift_training.augmentation.procedural.view import Floats

# How much of the snow stays on a class.
_STAYS = {ROAD: 0.85, SIDEWALK: 1.0, BUILDING: 0.1, PLANTS: 0.35, TERRAIN: 1.15}


def snowed(
    image: Bytes, labels: Bytes, place: Place, domain: Domain, rng: np.random.Generator
) -> Bytes:
    """Return surfaces, RGB ``uint8 [H,W,3]``, under snow: less of it where wheels went."""
    share = np.zeros(256, np.float32)
    share[list(_STAYS)] = [s * domain.snow for s in _STAYS.values()]
    wanted = share[labels[:: place.step, :: place.step]]
    tile = fractal(rng, 256, 4, 0.7)
    # By where it lies on the ground; what stands upright has one place for a whole column, and
    # is dusted evenly.
    rows, columns = np.indices(wanted.shape, dtype=np.float32)
    along = np.where(place.ground, place.right, columns) * np.float32(10)
    across = np.where(place.ground, place.ahead, rows) * np.float32(10)
    noise = cv2.remap(tile, along, across, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP).astype(
        np.float32
    )
    lane = (place.right + np.float32(rng.uniform(0, 3.4))) % np.float32(3.4) - np.float32(1.7)
    track = np.exp(-((np.abs(lane) - np.float32(0.8)) ** 2) / np.float32(0.1)) * place.ground
    uneven = np.where(place.ground, np.float32(1 / 180), np.float32(1 / 420)) * (noise - 128)
    cover = (wanted * 1.5 - 0.15 + uneven - 0.35 * track) * (wanted > 0)
    alpha = np.clip(cover, 0, 0.95).astype(np.float32)
    full = _full(alpha, image)
    white = np.empty_like(image)
    white[:] = (226, 230, 236)
    return np.asarray(cv2.blendLinear(white, image, full, 1 - full), np.uint8)


def mirrored(lit: Floats, place: Place, domain: Domain, rng: np.random.Generator) -> None:
    """Let wet ground mirror what stands behind it, in place: linear RGB ``float32 [H,W,3]``."""
    small = np.ascontiguousarray(lit[:: place.step, :: place.step])
    rows = np.arange(small.shape[0])[:, None]
    contact = np.maximum.accumulate(np.where(place.ground, 0, rows), axis=0)
    source = np.clip(2 * contact - rows, 0, None)
    mirror = np.take_along_axis(small, source[..., None], axis=0)
    smear = cv2.blur(mirror, (3, max(3, small.shape[0] // 24) | 1))
    tile = fractal(rng, 256, 4, 0.6)
    puddle = cv2.remap(
        tile, place.right * np.float32(8), place.ahead * np.float32(4),
        cv2.INTER_LINEAR, None, cv2.BORDER_WRAP,
    ).astype(np.float32)  # fmt: skip
    gloss = np.clip((puddle - 60) / 140, 0.1, 1) * np.clip(place.ahead / 25, 0.35, 1)
    share = (gloss * place.ground * np.float32(0.6 * domain.wet)).astype(np.float32)
    full = _full(share, lit)
    large = np.asarray(cv2.resize(smear, lit.shape[1::-1]), np.float32)
    lit[:] = cv2.blendLinear(large, lit, full, 1 - full)


def hazy(lit: Floats, depth: Floats, domain: Domain) -> Floats:
    """Return light as seen through air, linear RGB ``float32 [H,W,3]``.

    What is left of it falls exponentially with the distance (Koschmieder).

    Args:
        lit: linear RGB ``float32 [H,W,3]``.
        depth: metres ahead, ``float32 [H,W]``.
        domain: says how thick the air is, and its colour.
    """
    seen = np.asarray(cv2.exp(depth * np.float32(-domain.haze)), np.float32)
    air = np.empty_like(lit)
    air[:] = domain.air
    return np.asarray(cv2.blendLinear(lit, air, seen, 1 - seen), np.float32)


def falling(image: Bytes, domain: Domain, rng: np.random.Generator) -> None:
    """Draw rain or flakes over an image, RGB ``uint8 [H,W,3]``, in place."""
    if domain.words['weather'] not in ('rainy', 'snowy'):
        return
    rows = image.shape[0]
    tile = _drops(rng, rows) if domain.words['weather'] == 'rainy' else _flakes(rng, rows)
    bright = float(np.clip(np.sqrt(domain.skyline.mean()), 0.25, 1))
    layer = tiled(tile, (image.shape[0], image.shape[1]), rng)
    cv2.addWeighted(image, 1, cv2.merge([layer] * 3), bright, 0, dst=image)


def _drops(rng: np.random.Generator, rows: int) -> Bytes:
    """Draw streaks of rain, all about as long and as slanted, on a tile ``uint8 [512,512]``."""
    tile = np.zeros((512, 512), np.uint8)
    length, slant = rows * float(rng.uniform(0.01, 0.05)), float(rng.normal(0, 0.2))
    for x, y, bright in rng.integers(0, (512, 512, 100), (int(rng.integers(60, 260)), 3)).tolist():
        end = (round(x + slant * length), round(y + length))
        cv2.line(tile, (x, y), end, 15 + bright // 2, max(1, rows // 700), cv2.LINE_AA)
    return tile


def _flakes(rng: np.random.Generator, rows: int) -> Bytes:
    tile = np.zeros((512, 512), np.uint8)
    for x, y, size in rng.integers(0, (512, 512, 100), (int(rng.integers(40, 250)), 3)).tolist():
        radius = max(1, round(rows * 0.004 * (size / 100) ** 2))
        cv2.circle(tile, (x, y), radius, 90 + size, cv2.FILLED, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(tile, (0, 0), max(0.5, rows / 900)), np.uint8)


def _full(field: Floats, image: Bytes | Floats) -> Floats:
    return np.asarray(cv2.resize(field, image.shape[1::-1]), np.float32)

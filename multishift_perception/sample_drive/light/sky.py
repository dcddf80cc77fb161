# SPDX-License-Identifier: Apache-2.0
"""The sky, and the distant trees and roofs below it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.sample_drive.paint.geometry import Camera, Floats
from multishift_perception.sample_drive.paint.light import Light
from multishift_perception.sample_drive.paint.seeding import generator
from multishift_perception.sample_drive.paint.textures import TILE, clouds, fractal

BACKDROP_DISTANCE = 170.0
BINS = 2048


def sky_light(camera: Camera, light: Light, variant: int, drift: float) -> Floats:
    """Linear RGB ``float32 [rows, width, 3]`` of the sky from the top row to the horizon."""
    bottom = int(np.clip(np.ceil(camera.cy) + 1, 1, camera.height))
    half = camera.scaled(0.5)
    # Sky varies slowly, so it is worked out on every other pixel.
    color = _sky(half, light, variant, drift, (bottom + 1) // 2)
    size = (camera.width, bottom)
    return np.asarray(cv2.resize(color, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _sky(camera: Camera, light: Light, variant: int, drift: float, bottom: int) -> Floats:
    """The sky on ``bottom`` rows of a camera."""
    weather = light.weather
    rows = np.arange(bottom, dtype=np.float32)[:, None]
    up = np.maximum((camera.cy - rows) / camera.focal, 0.004)
    x = ((np.arange(camera.width, dtype=np.float32) - camera.cx) / camera.focal)[None]
    (fx, fz), (rx, rz) = camera.forward, camera.right
    dx, dz = np.float32(fx) + x * np.float32(rx), np.float32(fz) + x * np.float32(rz)
    norm = 1 / np.sqrt(1 + x * x + up * up)
    height = up * norm
    ramp = np.clip(height * 1.55, 0, 1) ** np.float32(0.55)
    zenith, horizon = np.array(weather.zenith, np.float32), np.array(weather.horizon, np.float32)
    color = horizon + (zenith - horizon) * ramp[..., None]
    sun = light.sun_direction
    toward = np.maximum((dx * sun[0] + dz * sun[2] + up * sun[1]) * norm, 0)
    if weather.glare > 0:
        disc = np.clip((toward - 0.9986) / 0.0006, 0, 1) * 6 + 0.5 * toward**60 + 0.22 * toward**8
        color += (disc * np.float32(weather.glare / 2.4))[..., None] * np.array(
            weather.sun, np.float32
        )
    elif weather.lamps > 0.3:  # the afterglow on the side where the sun has set
        low = np.clip(1 - height * 2.6, 0, 1) * toward * np.float32(1.2 - weather.lamps)
        color += low[..., None] * np.array(weather.horizon, np.float32)
    scale = np.float32(70.0)
    flat = 1 / (up + np.float32(0.06))
    u = np.mod(dx * flat * scale + np.float32(drift), TILE)
    v = np.mod(dz * flat * scale, TILE) + 0 * u
    density = cv2.remap(clouds(variant), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    cover = np.clip(density * 0.42 + np.float32(weather.cloudiness * 1.9 - 1.0), 0, 1)
    cover *= np.clip(height * 9, 0.25, 1)
    shaded = np.float32(1.0) - 0.32 * np.clip(cover - 0.35, 0, 1)
    cloud = np.array(weather.cloud, np.float32) * shaded[..., None]
    cloud = cloud * (1 + 0.4 * np.float32(weather.glare) * (toward**6)[..., None] * 0.4)
    return np.asarray(color + (cloud - color) * cover[..., None], np.float32)


def backdrop(
    camera: Camera, variant: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats, int]:
    """Distant trees and roofs.

    Returns:
        Masks of trees and of roofs ``bool [rows, width]``, their sRGB ``float32 [rows, width, 3]``
        and the picture's row at which they begin.
    """
    trees, blocks, tones = _panorama(variant)
    columns = np.arange(camera.width, dtype=np.float32)
    angle = camera.yaw - np.arctan((columns - camera.cx) / camera.focal)
    at = (angle / (2 * np.pi) * BINS).astype(np.int64) % BINS
    scale = camera.focal / BACKDROP_DISTANCE
    bottom = int(np.clip(np.floor(camera.cy) + 2, 1, camera.height))
    top = int(np.clip(camera.cy - 17 * scale - 1, 0, bottom - 1))
    above = camera.cy - np.arange(top, bottom, dtype=np.float32)[:, None]
    tree = above < ((trees[at] - camera.y) * scale)[None]
    roof = (above < ((blocks[at] - camera.y) * scale)[None]) & ~tree
    leaf = clouds(variant)[(np.arange(top, bottom) * 5 % TILE)[:, None], (at * 3 % TILE)[None]]
    green = np.array((62, 78, 44), np.float32) * (1 + 0.16 * leaf[..., None])
    return tree, roof, np.where(roof[..., None], tones[at][None], green), top


@lru_cache(maxsize=8)
def _panorama(variant: int) -> tuple[Floats, Floats, Floats]:
    """Heights of distant trees and roofs, metres, and the roofs' colours, by direction."""
    rng = generator('backdrop', variant)
    trees = 8.5 + 2.6 * fractal(rng, BINS // 4, 0.9)[:4].reshape(-1)
    blocks = np.repeat(rng.uniform(0, 17, BINS // 16), 16)
    blocks[np.repeat(rng.random(BINS // 16) < 0.55, 16)] = 0
    tones = np.repeat(rng.uniform(92, 150, (BINS // 16, 3)), 16, 0)
    return trees, blocks.astype(np.float32), tones.astype(np.float32)

# SPDX-License-Identifier: Apache-2.0
"""What happens between the scene's light and the file: rain, bloom, exposure, noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.light import Weather
from multishift_perception.sample_drive.paint.textures import sensor_noise

LEVELS = 65535
RANGE = 4.0


@dataclass(frozen=True)
class Lens:
    """A camera's habits: exposure factor, white balance, blur in pixels, vignette 0..1."""

    exposure: float = 1.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blur: float = 0.45
    vignette: float = 0.22


def random_lens(rng: np.random.Generator, spread: float) -> Lens:
    """Draw a camera; ``spread`` 1 for independent frames, less for the cameras of one drive."""
    warm = float(rng.normal(0, 0.035 * spread))
    return Lens(
        exposure=float(np.exp(rng.normal(0, 0.16 * spread))),
        balance=(1 + warm, 1 + float(rng.normal(0, 0.012 * spread)), 1 - warm),
        blur=float(np.clip(0.45 + rng.exponential(0.16) * spread, 0.3, 1.1)),
        vignette=float(rng.uniform(0.1, 0.34)),
    )


def _tone_curve() -> NDArray[np.uint8]:
    """Filmic response and gamma for linear values 0..``RANGE`` in ``LEVELS`` steps."""
    x = np.linspace(0, RANGE, LEVELS + 1) * 0.82
    film = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    return np.rint(255 * np.clip(film, 0, 1) ** (1 / 2.2)).astype(np.uint8)


TONE = _tone_curve()


def expose(
    light: Floats, weather: Weather, lens: Lens, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Turn linear light ``float32 [height, width, 3]`` into an RGB picture ``uint8``."""
    height, width = light.shape[:2]
    scale = height / 360
    if weather.rain > 0.05:
        light = _streaks(light, weather, rng)
    if weather.bloom > 0.01:
        light = light + _bloom(light, weather.bloom)
    gain = lens.exposure * np.array(lens.balance)
    grey = (1 - weather.saturation) * np.array([[0.25, 0.62, 0.13]] * 3)
    matrix = (grey + weather.saturation * np.eye(3)) * (gain * LEVELS / RANGE)[:, None]
    graded = cv2.transform(light, matrix.astype(np.float32))
    seen = cv2.multiply(graded, _vignette(height, width, round(lens.vignette, 3)))
    steps = np.clip(seen, 0, LEVELS).astype(np.uint16)
    picture = TONE[steps]
    if weather.rain > 0.3:
        _drops(picture, weather.rain, rng)
    blur = lens.blur * scale
    if blur > 0.2:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), blur))
    return _noise(picture, weather.noise, rng)


@lru_cache(maxsize=16)
def _vignette(height: int, width: int, strength: float) -> Floats:
    """Factors ``float32 [height, width, 3]`` that darken the corners."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    square = (x * x + y * y * np.float32(0.5)) / np.float32(1.5)
    dark = (1 - np.float32(strength) * square * square).astype(np.float32)
    return np.asarray(cv2.merge([dark] * 3), np.float32)


def _bloom(light: Floats, amount: float) -> Floats:
    """Light that bright spots spread over their surroundings."""
    height, width = light.shape[:2]
    small = cv2.resize(
        light, (max(width // 4, 1), max(height // 4, 1)), interpolation=cv2.INTER_AREA
    )
    bright = np.minimum(np.maximum(small - np.float32(0.75), 0), 4)
    near = cv2.GaussianBlur(bright, (0, 0), 0.010 * height)
    far = cv2.GaussianBlur(bright, (0, 0), 0.035 * height)
    spread = (near + far) * np.float32(amount * 2.2)
    return np.asarray(cv2.resize(spread, (width, height), interpolation=cv2.INTER_LINEAR))


def _streaks(light: Floats, weather: Weather, rng: np.random.Generator) -> Floats:
    """Falling drops, blurred by the exposure: near ones long, far ones a faint mist."""
    height, width = light.shape[:2]
    veil = np.zeros((height, width), np.uint8)
    scale = height / 360
    count = int(230 * weather.rain)
    x, y = rng.uniform(-20, width, count), rng.uniform(-30, height, count)
    reach = rng.gamma(2.0, 7.0, count) * scale
    tilt = float(rng.normal(0.08, 0.03))
    tone = rng.uniform(25, 110, count)
    for k in range(count):
        start = (int(x[k] * 8), int(y[k] * 8))
        end = (int((x[k] + tilt * reach[k]) * 8), int((y[k] + reach[k]) * 8))
        cv2.line(veil, start, end, float(tone[k]), 1, cv2.LINE_AA, 3)
    share = cv2.GaussianBlur(veil, (0, 0), 0.6 * scale).astype(np.float32)[..., None]
    return np.asarray(light + share * np.float32(0.42 / 255) * np.array(weather.air, np.float32))


def _drops(picture: NDArray[np.uint8], rain: float, rng: np.random.Generator) -> None:
    """Drops on the lens: each shows a blurred, upside-down view of its surroundings."""
    height, width = picture.shape[:2]
    for _ in range(int(rng.integers(0, 7) * rain)):
        r = max(int(rng.uniform(4, 11) * height / 360), 1)
        x, y = int(rng.integers(r, width - r)), int(rng.integers(r, height - r))
        view = picture[max(y - 3 * r, 0) : y + 3 * r, max(x - 3 * r, 0) : x + 3 * r]
        bead = cv2.resize(view[::-1], (2 * r, 2 * r), interpolation=cv2.INTER_AREA)
        bead = cv2.GaussianBlur(bead, (0, 0), max(r / 4, 0.6))
        ramp = np.linspace(0.86, 1.14, 2 * r)[:, None, None]
        disc = np.zeros((2 * r, 2 * r), np.float32)
        cv2.circle(disc, (r, r), max(r - 2, 1), 1.0, -1)
        mask = cv2.GaussianBlur(disc, (0, 0), 1.2)[..., None] * 0.8
        patch = picture[y - r : y + r, x - r : x + r]
        patch[:] = np.clip(patch + (bead * ramp - patch) * mask, 0, 255).astype(np.uint8)


def _noise(
    picture: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Sensor noise from a fixed tile at a random place."""
    height, width = picture.shape[:2]
    tile = sensor_noise()
    if height > tile.shape[0] or width > tile.shape[1]:
        tile = np.tile(tile, (height // tile.shape[0] + 1, width // tile.shape[1] + 1, 1))
    y = int(rng.integers(0, tile.shape[0] - height + 1))
    x = int(rng.integers(0, tile.shape[1] - width + 1))
    part = tile[y : y + height, x : x + width]
    noisy = cv2.scaleAdd(part, strength, picture.astype(np.float32))
    return np.asarray(cv2.convertScaleAbs(np.maximum(noisy, 0)), np.uint8)

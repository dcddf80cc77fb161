# SPDX-License-Identifier: Apache-2.0
"""The camera: exposure, lens, sensor and file."""

from __future__ import annotations

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.procedural.noise import tiled
from multishift_training.augmentation.procedural.view import Floats


def exposed(light: Floats, rng: np.random.Generator) -> Bytes:
    """Return a picture of linear light ``float32 [H,W,3]``, which is overwritten: RGB ``uint8``.

    The dark is brightened, but by night not to the light of day.
    """
    mean = max(float(light[::4, ::4].mean()), 1e-4)
    gain = min((0.22 / mean) ** 0.65, 3.5) * float(np.exp(rng.normal(0, 0.18)))
    vignette = _vignette((light.shape[0], light.shape[1]), float(rng.uniform(0, 0.45)))
    cv2.multiply(light, cv2.merge([vignette * np.float32(gain)] * 3), dst=light)
    cv2.sqrt(light, dst=light)
    return np.asarray(cv2.convertScaleAbs(light, alpha=255), np.uint8)


def taken(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Return a picture as a camera delivers it: tone, white balance, blur, noise and JPEG."""
    image = np.asarray(cv2.LUT(image, _tone(rng)), np.uint8)
    scale = image.shape[0] / 1024
    sigma = float(rng.uniform(0.35, 0.8) + (rng.random() < 0.25) * rng.uniform(0, 1.2))
    sigma *= max(scale, 0.6)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
    if rng.random() < 0.3:  # sharpened by the camera
        soft = cv2.GaussianBlur(image, (0, 0), 1.2)
        over = float(rng.uniform(0.2, 0.8))
        image = np.asarray(cv2.addWeighted(image, 1 + over, soft, -over, 0), np.uint8)
    strength = float(rng.exponential(2.5)) / 42
    if strength > 0.02:
        image = _noisy(image, min(strength, 0.35), rng)
    if rng.random() < 0.5:
        image = _compressed(image, int(rng.integers(45, 95)))
    return image


def _vignette(size: tuple[int, int], strength: float) -> Floats:
    y = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None] ** 2
    x = np.linspace(-1, 1, size[1], dtype=np.float32)[None, :] ** 2
    return (1 - np.float32(strength / 2) * (x + y)).astype(np.float32)


def _tone(rng: np.random.Generator) -> Bytes:
    """Draw contrast, gamma and white balance, as a table ``uint8 [1,256,3]``."""
    level = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.normal(0, 0.12))
    contrast, lift = float(rng.normal(1.05, 0.12)), abs(float(rng.normal(0, 0.03)))
    curve = (level - 0.5) * contrast + 0.5 + lift
    balance = np.exp(rng.normal(0, 0.05, 3))
    table = np.clip(curve * balance * 255, 0, 255)
    return np.asarray(table[None], np.uint8)


def _noisy(image: Bytes, strength: float, rng: np.random.Generator) -> Bytes:
    grains = 128 + 42 * rng.standard_normal((256, 256, 3), np.float32)
    if rng.random() < 0.5:
        grains = cv2.GaussianBlur(grains, (0, 0), 0.7) * 1.6 - 0.6 * 128
    tile = np.clip(grains, 0, 255).astype(np.uint8)
    layer = tiled(tile, (image.shape[0], image.shape[1]), rng)
    return np.asarray(cv2.addWeighted(image, 1, layer, strength, -128 * strength), np.uint8)


def _compressed(image: Bytes, quality: int) -> Bytes:
    # OpenCV takes the first channel for blue, of which JPEG keeps least.
    turned = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.jpg', turned, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)

# SPDX-License-Identifier: Apache-2.0
"""The sky: a gradient from zenith to skyline, with clouds in perspective."""

from __future__ import annotations

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.procedural.domain import Domain
from multishift_training.augmentation.procedural.labels import SKY, only
from multishift_training.augmentation.procedural.noise import fractal
from multishift_training.augmentation.procedural.view import Floats, View

_COARSE = 4  # pixels of the image to one that is painted


def paint(
    image: Bytes, labels: Bytes, view: View, domain: Domain, rng: np.random.Generator
) -> None:
    """Paint the sky into ``image``, RGB ``uint8 [H,W,3]``, where the labels say so.

    It shines by itself: its colours are those that it shows.
    """
    mask = only(labels, SKY)
    left, top, width, height = cv2.boundingRect(mask)
    if not height:
        return
    area = np.s_[top : top + height, left : left + width]
    rows = np.arange(top, top + height, _COARSE, dtype=np.float32)
    columns = np.arange(left, left + width, _COARSE, dtype=np.float32)
    above = np.maximum((view.horizon - rows) / view.rows, 0.02).astype(np.float32)
    rise = np.sqrt(np.minimum(above / np.float32(0.5), 1))[:, None, None]
    color = domain.skyline + (domain.zenith - domain.skyline) * rise
    color = color + (_cloud_color(domain, rng) - color) * _clouds(
        above, columns, view, domain, rng
    )
    small = (np.sqrt(np.clip(color, 0, 1)) * 255).astype(np.uint8)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.copyTo(large, mask[area], image[area])


def _cloud_color(domain: Domain, rng: np.random.Generator) -> Floats:
    light = (domain.sun + 1.4 * domain.ambient) * rng.uniform(0.5, 0.8)
    return np.asarray(np.maximum(light, domain.skyline * rng.uniform(0.5, 1.0)), np.float32)


def _clouds(
    above: Floats,
    columns: Floats,
    view: View,
    domain: Domain,
    rng: np.random.Generator,
) -> Floats:
    """Return the opacity of clouds on a level layer ``float32 [h,w,1]``."""
    tile = fractal(rng, 256, 2, 0.55)
    far = np.float32(rng.uniform(10, 30)) / above[:, None]
    along = far * ((columns - view.centre) / view.columns)[None, :] * 2
    field = cv2.remap(
        tile, along.astype(np.float32), np.broadcast_to(far, along.shape).astype(np.float32),
        cv2.INTER_LINEAR, None, cv2.BORDER_WRAP,
    )  # fmt: skip
    start = 215 - 200 * domain.clouds
    opacity = np.clip((field.astype(np.float32) - start) / 60, 0, 1)
    return np.asarray(opacity[..., None] * np.float32(0.9), np.float32)

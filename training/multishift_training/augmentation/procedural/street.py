# SPDX-License-Identifier: Apache-2.0
"""The street that textures hang in: level ground between two rows of upright surfaces."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.procedural.view import CAMERA_HEIGHT, Floats, View


class Maps(NamedTuple):
    """Where in a surface, in metres, each pixel of an area lies.

    Attributes:
        area: first and last row (exclusive) of the area; it has all columns.
        along: along the surface, or to the right on the ground, ``float32 [h,W]``.
        across: above the ground, or ahead on it, ``float32 [h,W]``.
    """

    area: tuple[int, int]
    along: Floats
    across: Floats

    def hang(self, texture: Bytes, scale: float, start: float = 0.0) -> Bytes:
        """Return the area with a texture of ``scale`` pixels to a metre, repeated without end."""
        along = (self.along + np.float32(start)) * np.float32(scale)
        across = self.across * np.float32(scale)
        return np.asarray(
            cv2.remap(texture, along, across, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP), np.uint8
        )


def upright(view: View, area: tuple[int, int], rng: np.random.Generator) -> Maps:
    """Return maps of what stands beside the street, or across its end."""
    beside = float(rng.uniform(6, 12))
    end = float(rng.uniform(30, 60)) if rng.random() < 0.75 else float(rng.uniform(14, 30))
    lateral = view.lateral()
    depth = np.minimum(beside / np.maximum(np.abs(lateral), np.float32(1e-3)), end)
    # Along the left side, across the end, and back along the right side, without a gap.
    corner = np.float32(beside / end)
    along = np.where(
        np.abs(lateral) < corner,
        lateral * np.float32(end),
        np.sign(lateral) * (np.float32(beside + end) - depth),
    ).astype(np.float32)
    above = np.float32(view.horizon) - np.arange(*area, dtype=np.float32) - np.float32(0.5)
    across = above[:, None] * (depth / np.float32(view.focal)).astype(np.float32)
    across += np.float32(CAMERA_HEIGHT)
    return Maps(area, np.ascontiguousarray(np.broadcast_to(along, across.shape)), across)


def ground(view: View, area: tuple[int, int]) -> Maps:
    """Return maps of the ground."""
    depth = view.ground_depth()[slice(*area), None]
    along = depth * view.lateral()
    return Maps(area, along, np.ascontiguousarray(np.broadcast_to(depth, along.shape)))

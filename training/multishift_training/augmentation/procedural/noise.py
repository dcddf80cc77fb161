# SPDX-License-Identifier: Apache-2.0
"""Random fields of several octaves, which continue at their edges without a seam."""

from __future__ import annotations

import cv2
import numpy as np

from multishift_perception.arrays import Bytes
from multishift_training.augmentation.procedural.view import Floats


def fractal(rng: np.random.Generator, side: int, coarsest: int, roughness: float = 0.6) -> Bytes:
    """Return a random field ``uint8 [side,side]`` of mean 128 and deviation 42.

    Args:
        rng: decides everything.
        side: rows and columns, a power of two.
        coarsest: cells along a side in the first octave, a power of two; each further octave has
            twice as many, up to one for each pixel.
        roughness: amplitude of an octave in that of the one before.
    """
    field = np.zeros((side, side), np.float32)
    cells, amplitude = coarsest, 1.0
    while cells <= side:
        octave = rng.standard_normal((cells, cells), np.float32) * np.float32(amplitude)
        cv2.add(field, _enlarged(octave, side), dst=field)
        cells, amplitude = 2 * cells, amplitude * roughness
    mean, deviation = cv2.meanStdDev(field)
    scale = 42 / max(float(deviation[0, 0]), 1e-6)
    even = (field - np.float32(mean[0, 0])) * np.float32(scale) + 128
    return np.clip(even, 0, 255).astype(np.uint8)


def tiled(tile: Bytes, size: tuple[int, int], rng: np.random.Generator) -> Bytes:
    """Return ``tile`` repeated to ``size`` (rows, columns), from a random place in it."""
    rows, columns = tile.shape[:2]
    top, left = int(rng.integers(rows)), int(rng.integers(columns))
    turned = np.roll(tile, (-top, -left), (0, 1))
    times = (-(-size[0] // rows), -(-size[1] // columns), *(1,) * (tile.ndim - 2))
    return np.ascontiguousarray(np.tile(turned, times)[: size[0], : size[1]])


def _enlarged(octave: Floats, side: int) -> Floats:
    """Interpolate to ``side`` as if the octave were repeated around itself."""
    factor = side // octave.shape[0]
    if factor == 1:
        return octave
    wrapped = np.pad(octave, 2, mode='wrap')
    large = cv2.resize(wrapped, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    edge = 2 * factor
    return np.asarray(large[edge:-edge, edge:-edge], np.float32)

# SPDX-License-Identifier: Apache-2.0
"""Colours drawn from ranges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
Range = tuple[Color, Color]


def between(rng: np.random.Generator, ends: Range) -> NDArray[np.float64]:
    """Draw a colour near the line between two, ``float64 [3]``; one in ten strays from it."""
    start, end = np.array(ends, np.float64)
    color = start + (end - start) * rng.random()
    if rng.random() < 0.1:
        color += 0.2 * (rng.uniform(0, 255, 3) - color)
    return np.asarray(color * np.exp(rng.normal(0, 0.035, 3)), np.float64)

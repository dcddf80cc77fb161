# SPDX-License-Identifier: Apache-2.0
"""Tells images that show nothing, as of a covered lens or a camera that has just been started."""

from __future__ import annotations

import numpy as np

from multishift_perception.arrays import Bytes

# Noise and JPEG's rounding change black by a few steps of 255; a street at night has lamps.
_MOST_RANGE = 8


def is_blank(image: Bytes) -> bool:
    """Return whether an image ``uint8 [h,w,3]`` is of one colour, black or any other."""
    return all(int(np.ptp(image[..., channel])) <= _MOST_RANGE for channel in range(3))

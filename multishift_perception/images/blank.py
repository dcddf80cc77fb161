# SPDX-License-Identifier: Apache-2.0
"""Tells images that show nothing, as of a covered lens or a camera that has just been started."""

from __future__ import annotations

from collections.abc import Sequence
import logging

import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.errors import MultishiftError

logger = logging.getLogger(__name__)

# Noise and JPEG's rounding change black by a few steps of 255; a street at night has lamps.
_MOST_RANGE = 8


def is_blank(image: Bytes) -> bool:
    """Return whether an image ``uint8 [h,w,3]`` is of one colour, black or any other."""
    return all(int(np.ptp(image[..., channel])) <= _MOST_RANGE for channel in range(3))


def check_content(blank: Sequence[str], count: int, *, every: str, some: str) -> None:
    """See that frames to calibrate on show something, and warn of those that do not.

    Args:
        blank: names of those that show nothing.
        count: how many frames there are.
        every: names all of them, for what is raised.
        some: names the blank ones, for the warning.

    Raises:
        MultishiftError: none shows anything: black ones calibrate and quantise without a fault.
    """
    if not blank:
        return
    if len(blank) == count:
        raise MultishiftError(
            f'{every} is of one colour, black or another: give frames of the road'
        )
    logger.warning(
        '%s are of one colour, black or another: leave them out; the first is %s', some, blank[0]
    )

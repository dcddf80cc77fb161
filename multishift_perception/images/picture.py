# SPDX-License-Identifier: Apache-2.0
"""A camera's picture before its colours are put in order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2

from multishift_perception.arrays import Bytes, as_bytes
from multishift_perception.images.resizing import copy_to

# Conversions that only put channels in order: which of them are red, green and blue.
_ORDERS: dict[int | None, tuple[int, int, int]] = {None: (0, 1, 2), cv2.COLOR_BGR2RGB: (2, 1, 0)}


@dataclass(frozen=True)
class Picture:
    """Pixels as the camera sent them.

    RGB is made of each pixel alone: to resize first and convert then gives the same.

    Attributes:
        pixels: ``uint8 [h,w,c]``, maybe a read-only view of the message.
        conversion: OpenCV's code of the conversion to RGB; None where they are RGB.
    """

    pixels: Bytes
    conversion: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the RGB image."""
        height, width = self.pixels.shape[:2]
        return height, width, 3

    @property
    def order(self) -> tuple[int, int, int] | None:
        """Which channels of the pixels are red, green and blue; None where they are computed."""
        return _ORDERS.get(self.conversion)

    def like(self, pixels: Bytes) -> Picture:
        """Return a picture of other pixels in the same order of colours."""
        return replace(self, pixels=pixels)

    def rgb(self, out: Bytes | None = None) -> Bytes:
        """Return the image, RGB ``uint8 [h,w,3]``.

        Args:
            out: where to write it; without, RGB pixels are given as they are.
        """
        if self.conversion is not None:
            return as_bytes(cv2.cvtColor(self.pixels, self.conversion, dst=out))
        return copy_to(self.pixels, out)

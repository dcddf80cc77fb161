# SPDX-License-Identifier: Apache-2.0
"""Pictures that a browser shows: of a frame, of its labels, its score, its mask."""

from __future__ import annotations

from enum import StrEnum

import cv2
import numpy as np
import simplejpeg

from multishift_perception.arrays import Bytes, as_bytes

# Tiles are seldom wider, and the page may come by a slow link.
_MAX_WIDTH = 1280
_QUALITY = 80


class PictureKind(StrEnum):
    """What a tile shows."""

    OVERLAY = 'overlay'
    LABELS = 'labels'
    SCORE = 'score'
    MASK = 'mask'


def encode_picture(image: Bytes) -> bytes:
    """Return an image, RGB ``uint8 [h,w,3]`` or grey ``[h,w]``, as JPEG; wide ones shrink."""
    height, width = image.shape[:2]
    if width > _MAX_WIDTH:
        size = _MAX_WIDTH, max(1, round(height * _MAX_WIDTH / width))
        image = as_bytes(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    is_grey = image.ndim == 2
    pixels = np.ascontiguousarray(image[..., None] if is_grey else image)
    colorspace, sampling = ('GRAY', 'Gray') if is_grey else ('RGB', '420')
    return bytes(
        simplejpeg.encode_jpeg(
            pixels, quality=_QUALITY, colorspace=colorspace, colorsubsampling=sampling
        )
    )

# SPDX-License-Identifier: Apache-2.0
"""Pictures that a browser shows: of a frame, of its labels, its score, its mask."""

from __future__ import annotations

from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray
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


def draw_score(score: NDArray[np.float32]) -> Bytes:
    """Return calibrated scores as colours from black, 0, to light yellow, 1.

    Args:
        score: ``float32 [h,w]``, 0..1.

    Returns:
        RGB ``uint8 [h,w,3]``.
    """
    levels = cv2.convertScaleAbs(score, alpha=255.0)
    return as_bytes(
        cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    )


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

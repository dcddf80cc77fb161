# SPDX-License-Identifier: Apache-2.0
"""A frame with its classes coloured and its anomalies tinted and outlined."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from multishift_perception.arrays import Bytes, as_bytes
from multishift_perception.classes import NOVEL, NOVEL_COLOR, VOID
from multishift_perception.images.resizing import nearest_rows, widen

# No Cityscapes class has a colour near these two.
OUTLINE_COLOR = (255, 255, 0)
TINT_COLOR = NOVEL_COLOR
_TINT = 0.6
# Weight of the class colours, where nobody asks for another.
ALPHA = 0.5
# One pixel of outline per this many rows, so that it is seen at any size.
_ROWS_PER_OUTLINE_PIXEL = 360
# Rows that are drawn at once.
_BAND = 60


def draw_overlay(
    image: Bytes,
    labels: Bytes,
    mask: Bytes,
    colors: Bytes,
    alpha: float,
    out: Bytes | None = None,
    *,
    conversion: int | None = None,
) -> Bytes:
    """Draw the classes and the anomalies over a frame.

    Args:
        image: RGB ``uint8 [h,w,3]``; not changed, unless it is ``out``.
        labels: class index per pixel, ``uint8``, of the image's size or any other, from which it
            is enlarged as the pipeline does; void and values without a colour are left as the
            image has them.
        mask: ``uint8 [h,w]``, not zero where the frame is anomalous.
        colors: look-up table ``uint8 [256,3]`` of RGB colours, black where a value has none.
        alpha: weight of the class colours, 0..1.
        out: where to draw, ``uint8 [h,w,3]``; may be the image.
        conversion: OpenCV's code of the conversion that makes the image's pixels RGB; None where
            they are.

    Returns:
        RGB ``uint8 [h,w,3]``.
    """
    drawn = np.empty_like(image, order='C') if out is None else out
    height, width = image.shape[:2]
    paint = widen(color_labels(labels, colors), width)
    has_color = (colors.any(axis=1) & (np.arange(256) != VOID)).astype(np.uint8) * 255
    known = as_bytes(cv2.LUT(labels, has_color))
    unknown = None if known.all() else widen(~known, width)
    rows = nearest_rows(labels.shape[0], height)
    # What one band needs stays in the CPU's cache.
    for start in range(0, height, _BAND):
        band = slice(start, start + _BAND)
        painted = paint.take(rows[band], axis=0, mode='clip')
        seen = image[band] if conversion is None else cv2.cvtColor(image[band], conversion)
        if unknown is None:
            cv2.addWeighted(seen, 1 - alpha, painted, alpha, 0, dst=drawn[band])
        else:
            cv2.addWeighted(seen, 1 - alpha, painted, alpha, 0, dst=painted)
            cv2.copyTo(seen, unknown[rows[band]], painted)
            drawn[band] = painted
    _mark_anomalies(drawn, mask)
    return drawn


def color_labels(labels: Bytes, colors: Bytes) -> Bytes:
    """Return each label's colour.

    Args:
        labels: ``uint8 [h,w]``.
        colors: look-up table ``uint8 [256,3]`` of RGB colours.

    Returns:
        RGB ``uint8 [h,w,3]``.
    """
    return as_bytes(cv2.LUT(cv2.merge([labels] * 3), colors.reshape(256, 1, 3)))


def draw_truth(
    image: Bytes,
    truth: Bytes,
    colors: Bytes,
    alpha: float,
    *,
    has_classes: bool = True,
) -> Bytes:
    """Draw the ground truth over a frame, its novel objects as anomalies are.

    Args:
        image: RGB ``uint8 [h,w,3]``; not changed.
        truth: ground truth, ``uint8 [h,w]``.
        colors: see ``draw_overlay``.
        alpha: weight of the class colours, 0..1.
        has_classes: whether known pixels have their class; if not, they are left as they are.

    Returns:
        RGB ``uint8 [h,w,3]``.
    """
    novel = np.where(truth == NOVEL, 255, 0).astype(np.uint8)
    labels = truth if has_classes else np.full_like(truth, VOID)
    return draw_overlay(image, labels, novel, colors, alpha)


def _mark_anomalies(drawn: Bytes, mask: Bytes) -> None:
    """Tint the anomalous pixels and outline their regions on the outside, in place."""
    height, width = mask.shape
    reach = max(1, round(height / _ROWS_PER_OUTLINE_PIXEL))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    # Most of a frame has none: only the parts that do are looked at again.
    for start in range(0, height, _BAND):
        top, bottom = max(0, start - reach), min(height, start + _BAND + reach)
        x, _, across, down = cv2.boundingRect(mask[top:bottom])
        if not down:
            continue
        columns = slice(max(0, x - reach), min(width, x + across + reach))
        grown = cv2.dilate(mask[top:bottom, columns], kernel)[start - top :][:_BAND]
        band = (slice(start, start + _BAND), columns)
        part, inside = drawn[band], mask[band]
        tint = _filled(width, TINT_COLOR)[: part.shape[0], columns]
        cv2.copyTo(cv2.addWeighted(part, 1 - _TINT, tint, _TINT, 0), inside, part)
        _, outside = cv2.threshold(inside, 0, 255, cv2.THRESH_BINARY_INV)
        ring = cv2.bitwise_and(grown, outside)
        cv2.copyTo(_filled(width, OUTLINE_COLOR)[: part.shape[0], columns], ring, part)


@lru_cache(maxsize=8)
def _filled(width: int, color: tuple[int, int, int]) -> Bytes:
    """Return a band of one colour; to make one takes longer than all that is done with it."""
    return np.full((_BAND, width, 3), color, np.uint8)

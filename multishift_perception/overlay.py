# SPDX-License-Identifier: Apache-2.0
"""A frame with its classes coloured and its anomalies tinted and outlined."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

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
    paint = _widened_paint(labels, colors, width)
    has_color = (colors.any(axis=1) & (np.arange(256) != VOID)).astype(np.uint8) * 255
    known = as_bytes(cv2.LUT(labels, has_color))
    unknown = None if known.all() else widen(~known, width)
    rows = nearest_rows(labels.shape[0], height)
    scratch = np.empty((2, min(_BAND, height), width, 3), np.uint8)
    # What one band needs stays in the CPU's cache.
    for start in range(0, height, _BAND):
        band = slice(start, min(start + _BAND, height))
        painted, seen = scratch[:, : band.stop - start]
        paint.take(rows[band], axis=0, mode='clip', out=painted)
        if conversion is None:
            seen = image[band]
        else:
            cv2.cvtColor(image[band], conversion, dst=seen)
        if unknown is None:
            cv2.addWeighted(seen, 1 - alpha, painted, alpha, 0, dst=drawn[band])
        else:
            cv2.addWeighted(seen, 1 - alpha, painted, alpha, 0, dst=painted)
            cv2.copyTo(seen, unknown[rows[band]], painted)
            drawn[band] = painted
    for start in range(0, height, _BAND):
        _mark_anomalies(drawn, mask, slice(start, min(start + _BAND, height)))
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


def _widened_paint(labels: Bytes, colors: Bytes, width: int) -> Bytes:
    """Return each label's colour at another width, RGB ``uint8 [h,width,3]``."""
    # Whole words are looked up and repeated twice as fast as groups of three bytes.
    table = np.zeros((256, 4), np.uint8)
    table[:, :3] = colors
    words = table.view(np.uint32)[:, 0].take(labels, mode='clip')
    paint = words.view(np.uint8).reshape(*labels.shape, 4)
    return as_bytes(cv2.cvtColor(widen(paint, width), cv2.COLOR_BGRA2BGR))


def _mark_anomalies(drawn: Bytes, mask: Bytes, band: slice) -> None:
    """Tint a band's anomalous pixels and outline their regions on the outside, in place."""
    height, width = mask.shape
    reach = max(1, round(height / _ROWS_PER_OUTLINE_PIXEL))
    top, bottom = max(0, band.start - reach), min(height, band.stop + reach)
    # Most of a frame has none: only the parts that do are looked at again.
    x, _, across, down = cv2.boundingRect(mask[top:bottom])
    if not down:
        return
    columns = slice(max(0, x - reach), min(width, x + across + reach))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    grown = cv2.dilate(mask[top:bottom, columns], kernel)[band.start - top :]
    part, inside = drawn[band, columns], mask[band, columns]
    tint, outline = (
        _filled(width, color)[: len(part), columns] for color in (TINT_COLOR, OUTLINE_COLOR)
    )
    tinted = cv2.addWeighted(part, 1 - _TINT, tint, _TINT, 0)
    cv2.copyTo(outline, grown[: len(part)], part)
    cv2.copyTo(tinted, inside, part)


@lru_cache(maxsize=8)
def _filled(width: int, color: tuple[int, int, int]) -> Bytes:
    """Return a band of one colour; to make one takes longer than all that is done with it."""
    return np.full((_BAND, width, 3), color, np.uint8)

# SPDX-License-Identifier: Apache-2.0
"""A frame with its classes coloured and its anomalies tinted and outlined."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL, NOVEL_COLOR, VOID

# No Cityscapes class has a colour near these two.
OUTLINE_COLOR = (255, 255, 0)
TINT_COLOR = NOVEL_COLOR
_TINT = 0.6
# One pixel of outline per this many rows, so that it is seen at any size.
_ROWS_PER_OUTLINE_PIXEL = 360


def draw_overlay(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    colors: NDArray[np.uint8],
    alpha: float,
) -> NDArray[np.uint8]:
    """Draw the classes and the anomalies over a frame.

    Args:
        image: RGB ``uint8 [h,w,3]``; not changed.
        labels: class index per pixel, ``uint8 [h,w]``; void and values without a colour are
            left as the image has them.
        mask: ``uint8 [h,w]``, not zero where the frame is anomalous.
        colors: look-up table ``uint8 [256,3]`` of RGB colours, black where a value has none.
        alpha: weight of the class colours, 0..1.

    Returns:
        RGB ``uint8 [h,w,3]``.
    """
    drawn = np.array(image)
    known = (colors.any(axis=1) & (np.arange(256) != VOID)).astype(np.uint8) * 255
    painted = cv2.LUT(cv2.merge([labels, labels, labels]), colors.reshape(256, 1, 3))
    blended = cv2.addWeighted(image, 1 - alpha, painted, alpha, 0)
    cv2.copyTo(blended, cv2.LUT(labels, known), drawn)
    if cv2.countNonZero(mask):
        _mark_anomalies(drawn, mask)
    return drawn


def draw_truth(
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    colors: NDArray[np.uint8],
    alpha: float,
    *,
    has_classes: bool = True,
) -> NDArray[np.uint8]:
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


def _mark_anomalies(drawn: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    """Tint the anomalous pixels and outline their regions on the outside, in place."""
    tint = np.array(TINT_COLOR, np.float32) * _TINT
    table = np.arange(256, dtype=np.float32)[:, None] * (1 - _TINT) + tint
    tinted = cv2.LUT(drawn, np.rint(table).astype(np.uint8).reshape(256, 1, 3))
    cv2.copyTo(tinted, mask, drawn)
    reach = max(1, round(drawn.shape[0] / _ROWS_PER_OUTLINE_PIXEL))
    grown = cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    drawn[(grown != 0) & (mask == 0)] = OUTLINE_COLOR

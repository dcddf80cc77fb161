# SPDX-License-Identifier: Apache-2.0
"""How images, labels and scores are brought to another size: each in one way, for all users."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes, as_bytes

_Number = TypeVar('_Number', np.uint8, np.float32)


def fit(frame: Bytes, size: tuple[int, int], out: Bytes | None = None) -> Bytes:
    """Return a frame ``uint8 [h,w,c]`` stretched to ``size`` (height, width), as engines get it.

    Training resizes its images by this too, so that a network learns from what it will see.

    While it stays at least as large as asked for, a frame is halved, each pixel the mean of four.
    Then, where no side is to shrink to less than half, it is interpolated at twice the size
    and halved once more. So no pixel is left out, and thin and small objects are kept as averages
    of exact areas keep them, at a third of their cost; those are taken where neither applies.

    Args:
        frame: the frame.
        size: height and width in pixels.
        out: where to write the result, ``uint8 [height,width,c]``.
    """
    height, width = size
    while _halves(frame.shape[0], height) and _halves(frame.shape[1], width):
        half = (frame.shape[1] // 2, frame.shape[0] // 2)
        frame = as_bytes(cv2.resize(frame, half, interpolation=cv2.INTER_AREA))
    if frame.shape[:2] == size:
        return given(frame, out)
    # Interpolation leaves pixels out when shrinking; averaging is no better when growing.
    method = cv2.INTER_LINEAR
    if frame.shape[0] > height and frame.shape[1] > width:
        if frame.shape[0] <= 2 * height and frame.shape[1] <= 2 * width:
            frame = as_bytes(cv2.resize(frame, (2 * width, 2 * height)))
        method = cv2.INTER_AREA
    return as_bytes(cv2.resize(frame, (width, height), dst=out, interpolation=method))


def _halves(side: int, wanted: int) -> bool:
    return side % 2 == 0 and side >= 2 * wanted


def resize_labels(labels: Bytes, size: tuple[int, ...], out: Bytes | None = None) -> Bytes:
    """Return labels ``uint8 [h,w]`` at another size, the one way it is done.

    Where they have that size, they are returned themselves.

    Args:
        labels: class indices, or anything else that is not to be mixed: ``uint8 [h,w]`` or
            ``[h,w,c]``.
        size: height and width.
        out: where to write the result.
    """
    if labels.shape[:2] == tuple(size):
        return given(labels, out)
    # Rows repeat: whole ones are copied.
    rows = nearest_rows(labels.shape[0], size[0])
    return as_bytes(widen(labels, size[1]).take(rows, axis=0, out=out, mode='clip'))


def widen(labels: Bytes, width: int) -> Bytes:
    """Return labels ``uint8 [h,w,...]`` at another width, as `resize_labels` does it."""
    if labels.ndim == 2 and width > labels.shape[1]:
        # Columns that repeat are copied as rows: to turn them there and back costs less.
        columns = nearest_rows(labels.shape[1], width)
        repeated = cv2.transpose(labels).take(columns, axis=0, mode='clip')
        return as_bytes(cv2.transpose(repeated))
    # By pixel centres, as scores are; plain INTER_NEAREST is off by up to half a pixel.
    size = (width, labels.shape[0])
    return as_bytes(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT))


@lru_cache(maxsize=64)
def nearest_rows(height: int, new_height: int) -> NDArray[np.intp]:
    """Return for each row at a new height which one of the old it shows, ``[new_height]``."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    found = cv2.resize(rows, (1, new_height), interpolation=cv2.INTER_NEAREST_EXACT)
    shown = np.asarray(found, np.intp).ravel()
    shown.flags.writeable = False
    return shown


def resize_scores(
    scores: NDArray[_Number], size: tuple[int, ...], out: NDArray[_Number] | None = None
) -> NDArray[_Number]:
    """Return scores ``[h,w]`` at another size (height, width), the one way it is done."""
    if scores.shape == tuple(size):
        return given(scores, out)
    height, width = size
    resized = cv2.resize(scores, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, scores.dtype)


def given(array: NDArray[_Number], out: NDArray[_Number] | None) -> NDArray[_Number]:
    """Return the array, in ``out`` where that is given."""
    if out is None:
        return array
    np.copyto(out, array)
    return out

# SPDX-License-Identifier: Apache-2.0
"""How images, labels and scores are brought to another size: each in one way, for all users."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeVar

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
    steps = fit_steps(frame.shape[:2], size)
    for step in steps:
        dst = out if step is steps[-1] else None
        wide = step.size[::-1]
        frame = as_bytes(cv2.resize(frame, wide, dst=dst, interpolation=step.method))
    return frame if steps else copy_to(frame, out)


class FitStep(NamedTuple):
    """A step of `fit`.

    Attributes:
        size: height and width that it gives.
        method: OpenCV's code of the interpolation: ``INTER_LINEAR`` or ``INTER_AREA``.
    """

    size: tuple[int, int]
    method: int


def fit_steps(shape: tuple[int, ...], size: tuple[int, int]) -> list[FitStep]:
    """Return how `fit` brings frames of a shape to a size (both height and width); maybe none."""
    (h, w), (height, width) = shape, size
    steps = []
    while _halves(h, height) and _halves(w, width):
        h, w = h // 2, w // 2
        steps.append(FitStep((h, w), cv2.INTER_AREA))
    if (h, w) == size:
        return steps
    # Interpolation leaves pixels out when shrinking; averaging is no better when growing.
    if h <= height or w <= width:
        return [*steps, FitStep(size, cv2.INTER_LINEAR)]
    if h <= 2 * height and w <= 2 * width:
        steps.append(FitStep((2 * height, 2 * width), cv2.INTER_LINEAR))
    return [*steps, FitStep(size, cv2.INTER_AREA)]


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
        return copy_to(labels, out)
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
        return copy_to(scores, out)
    height, width = size
    resized = cv2.resize(scores, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, scores.dtype)


def copy_to(array: NDArray[_Number], out: NDArray[_Number] | None) -> NDArray[_Number]:
    """Return an array; where ``out`` is given, that, with the array copied to it."""
    if out is None:
        return array
    np.copyto(out, array)
    return out

# SPDX-License-Identifier: Apache-2.0
"""What of an image is ground to drive or walk on, and what anomalies stand on it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_perception.classes import SemanticClass

# Names of classes, of Cityscapes.
GROUND = frozenset({'road', 'sidewalk', 'terrain'})
# Shares of an image mean as much of some ten thousand pixels.
_ROWS = 180


def ground_table(classes: Sequence[SemanticClass]) -> NDArray[np.bool_]:
    """Return which labels are ground, ``bool [256]``; none where no class has its name."""
    table = np.zeros(256, np.bool_)
    table[: len(classes)] = [known.name in GROUND for known in classes]
    return table


def find_ground(labels: Bytes, table: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where labels ``uint8 [h,w]`` are ground, ``bool [h,w]``; see `ground_table`."""
    return np.asarray(cv2.LUT(labels, table.view(np.uint8))).view(np.bool_)


def on_ground(mask: Bytes, labels: Bytes, table: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what of an anomaly mask lies or stands on ground.

    That is what is labelled as ground, and what has it, or the lower border of the image, next
    below it in its column: an object in the way is seldom labelled as what it hides.

    Args:
        mask: ``uint8 [h,w]``, not zero where the frame is anomalous.
        labels: ``uint8 [h,w]``.
        table: see `ground_table`.

    Returns:
        ``bool [h,w]``.
    """
    height = len(mask)
    # Anomalous pixels alone, of which there are few: column by column, downwards.
    places = np.flatnonzero(cv2.transpose(mask) != 0)
    columns, rows = np.divmod(places, height)
    is_ground = table[labels[rows, columns]]
    is_lowest = rows == height - 1
    has_anomaly_below = np.append(np.diff(places) == 1, np.False_)[: len(places)] & ~is_lowest
    below = table[labels[np.minimum(rows + 1, height - 1), columns]]
    # What is no ground looks down to the first that is, or has no anomaly below.
    is_end = is_ground | ~has_anomaly_below
    stands = (is_ground | is_lowest | below)[is_end]
    result = np.zeros(mask.shape, np.bool_)
    result[rows, columns] = stands[np.cumsum(is_end) - is_end]
    return result


def anomalous_share(mask: Bytes, labels: Bytes, table: NDArray[np.bool_]) -> float | None:
    """Return the anomalous share of the ground, 0..1: None where no class is ground.

    Args:
        mask: ``uint8 [h,w]``, not zero where the frame is anomalous.
        labels: ``uint8 [h,w]``.
        table: see `ground_table`.
    """
    if not table.any():
        return None
    step = -(-len(mask) // _ROWS)
    mask = np.ascontiguousarray(mask[::step, ::step])
    labels = np.ascontiguousarray(labels[::step, ::step])
    anomalous = int(np.count_nonzero(on_ground(mask, labels, table)))
    free = int(np.count_nonzero(find_ground(labels, table) & (mask == 0)))
    return anomalous / (anomalous + free) if anomalous else 0.0

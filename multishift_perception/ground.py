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


def on_ground(mask: Bytes, ground: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what of an anomaly mask lies or stands on ground.

    That is what is labelled as ground, and what has it, or the lower border of the image, next
    below it in its column: an object in the way is seldom labelled as what it hides.

    Args:
        mask: ``uint8 [h,w]``, not zero where the frame is anomalous.
        ground: ``bool [h,w]``, where the label is ground.

    Returns:
        ``bool [h,w]``.
    """
    anomalous = mask != 0
    # Each row has a number that is larger the higher it is, and odd where there is ground; the
    # largest from below is what anomalies let through.
    rows = 2 * np.arange(len(mask), 0, -1, dtype=np.int16)[:, None]
    code = (rows + ground) * ~(anomalous & ~ground)
    for row in range(len(mask) - 2, -1, -1):  # several times as fast as an accumulation
        np.maximum(code[row], code[row + 1], out=code[row])
    return np.asarray(anomalous & ((code & 1 == 1) | (code == 0)))


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
    mask = mask[::step, ::step]
    ground = find_ground(np.ascontiguousarray(labels[::step, ::step]), table)
    anomalous = int(np.count_nonzero(on_ground(mask, ground)))
    free = int(np.count_nonzero(ground & (mask == 0)))
    return anomalous / (anomalous + free) if anomalous else 0.0

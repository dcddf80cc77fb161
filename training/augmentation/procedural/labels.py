"""Labels by name, and where they are; see ``multishift_perception.classes``."""

from __future__ import annotations

import numpy as np

from multishift_perception.classes import CITYSCAPES
from multishift_training.augmentation.parts import Bytes

(
    ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, PLANTS, TERRAIN,
    SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE,
) = range(len(CITYSCAPES))  # fmt: skip

GROUND = (ROAD, SIDEWALK, TERRAIN)


def only(labels: Bytes, label: int) -> Bytes:
    """Return 1 where a label is, 0 elsewhere, ``uint8 [H,W]``."""
    return np.asarray(labels == label).view(np.uint8)


def present(labels: Bytes) -> list[int]:
    """Return the values that occur, in order."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return [int(value) for value in np.flatnonzero(counts)]

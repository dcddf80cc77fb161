# SPDX-License-Identifier: Apache-2.0
"""Labels by name, and where they are; see ``multishift_perception.classes``."""

from __future__ import annotations

import numpy as np

from multishift_perception.arrays import Bytes
from multishift_perception.classes import TrainId

ROAD = TrainId.ROAD.value
SIDEWALK = TrainId.SIDEWALK.value
BUILDING = TrainId.BUILDING.value
WALL = TrainId.WALL.value
FENCE = TrainId.FENCE.value
POLE = TrainId.POLE.value
TRAFFIC_LIGHT = TrainId.TRAFFIC_LIGHT.value
TRAFFIC_SIGN = TrainId.TRAFFIC_SIGN.value
PLANTS = TrainId.VEGETATION.value
TERRAIN = TrainId.TERRAIN.value
SKY = TrainId.SKY.value
PERSON = TrainId.PERSON.value
RIDER = TrainId.RIDER.value
CAR = TrainId.CAR.value
TRUCK = TrainId.TRUCK.value
BUS = TrainId.BUS.value
TRAIN = TrainId.TRAIN.value
MOTORCYCLE = TrainId.MOTORCYCLE.value
BICYCLE = TrainId.BICYCLE.value

GROUND = (ROAD, SIDEWALK, TERRAIN)


def only(labels: Bytes, label: int) -> Bytes:
    """Return 1 where a label is, 0 elsewhere, ``uint8 [H,W]``."""
    return np.asarray(labels == label).view(np.uint8)


def present(labels: Bytes) -> list[int]:
    """Return the values that occur, in order."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return [int(value) for value in np.flatnonzero(counts)]

# SPDX-License-Identifier: Apache-2.0
"""Class indices, names and colours: the one place that knows what a label value means.

Indices 0..C-1 are known classes (Cityscapes train ids when C is 19), 254 is a novel object, and
255 is void: ignored in training, in metrics and in the overlay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

NOVEL = 254
VOID = 255


@dataclass(frozen=True)
class SemanticClass:
    """A known class: its name and the colour that shows it (red, green, blue, 0..255)."""

    name: str
    color: tuple[int, int, int]


# Names and colours follow the Cityscapes benchmark; a class's index is its train id.
CITYSCAPES: tuple[SemanticClass, ...] = (
    SemanticClass('road', (128, 64, 128)),
    SemanticClass('sidewalk', (244, 35, 232)),
    SemanticClass('building', (70, 70, 70)),
    SemanticClass('wall', (102, 102, 156)),
    SemanticClass('fence', (190, 153, 153)),
    SemanticClass('pole', (153, 153, 153)),
    SemanticClass('traffic light', (250, 170, 30)),
    SemanticClass('traffic sign', (220, 220, 0)),
    SemanticClass('vegetation', (107, 142, 35)),
    SemanticClass('terrain', (152, 251, 152)),
    SemanticClass('sky', (70, 130, 180)),
    SemanticClass('person', (220, 20, 60)),
    SemanticClass('rider', (255, 0, 0)),
    SemanticClass('car', (0, 0, 142)),
    SemanticClass('truck', (0, 0, 70)),
    SemanticClass('bus', (0, 60, 100)),
    SemanticClass('train', (0, 80, 100)),
    SemanticClass('motorcycle', (0, 0, 230)),
    SemanticClass('bicycle', (119, 11, 32)),
)


class TrainId(IntEnum):
    """The index of each class of ``CITYSCAPES``, by its name."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    WALL = 3
    FENCE = 4
    POLE = 5
    TRAFFIC_LIGHT = 6
    TRAFFIC_SIGN = 7
    VEGETATION = 8
    TERRAIN = 9
    SKY = 10
    PERSON = 11
    RIDER = 12
    CAR = 13
    TRUCK = 14
    BUS = 15
    TRAIN = 16
    MOTORCYCLE = 17
    BICYCLE = 18


NOVEL_COLOR = (255, 64, 0)


def color_table(classes: Sequence[SemanticClass]) -> NDArray[np.uint8]:
    """Return a look-up table ``uint8 [256, 3]`` from label value to RGB colour.

    Values that are neither a known class nor ``NOVEL`` are black.
    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = [c.color for c in classes]
    table[NOVEL] = NOVEL_COLOR
    return table

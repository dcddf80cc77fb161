# SPDX-License-Identifier: Apache-2.0
"""What all vehicles share: paints, wheels, lamps' colours, side panels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.mesh import Mesh
from multishift_perception.sample_drive.paint.solids import disc, panel, tubes

HEAD = (255, 250, 232)
TAIL = (226, 28, 20)
RUBBER = (24, 24, 26)


PAINTS = (
    (226, 228, 230), (236, 234, 226), (30, 32, 36), (18, 18, 20), (120, 124, 130),
    (168, 172, 178), (74, 80, 88), (38, 62, 112), (24, 40, 78), (148, 24, 30), (186, 32, 34),
    (58, 84, 66), (196, 178, 140), (98, 70, 52), (60, 110, 160), (214, 168, 40),
    (206, 98, 32), (110, 150, 130), (124, 40, 66), (82, 62, 108),
)  # fmt: skip


def paint(rng: np.random.Generator) -> tuple[float, float, float]:
    """A car's colour: mostly common paints, at times any colour at all."""
    if rng.random() < 0.22:
        value = rng.uniform(20, 225, 3)
    else:
        value = np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.85, 1.1)
    r, g, b = np.clip(value + rng.normal(0, 6, 3), 8, 245)
    return float(r), float(g), float(b)


def wheels(width: float, axles: tuple[float, ...], radius: float, rim: Floats) -> list[Mesh]:
    """Arches, tyres and rims, four or more, just proud of the body."""
    parts = []
    for z in axles:
        for side in (-1, 1):
            x = side * width / 2
            parts += [
                disc(
                    (x * 1.002, radius * 1.04, z),
                    radius * 1.16,
                    (12, 12, 13),
                    facing=(side, 0, 0),
                    layer=1,
                ),
                disc((x * 1.008, radius, z), radius, RUBBER, facing=(side, 0, 0), layer=2),
                disc((x * 1.012, radius, z), radius * 0.64, rim, facing=(side, 0, 0), layer=3),
                disc(
                    (x * 1.014, radius, z), radius * 0.2, rim * 0.45, facing=(side, 0, 0), layer=4
                ),
            ]
            depth = 0.24
            back = x - side * depth
            parts.append(
                tubes(
                    [[x, radius, z]],
                    [[back, radius, z]],
                    radius,
                    radius,
                    RUBBER,
                    sides=10,
                    layer=-1,
                )
            )
    return parts


def side_panels(
    width: float,
    z0: float,
    z1: float,
    y0: float,
    y1: float,
    color: ArrayLike,
    *,
    gloss: float = 0.0,
) -> list[Mesh]:
    """The same upright rectangle on both sides of a vehicle."""
    parts = []
    for side in (-1, 1):
        x = side * (width / 2 + 0.012)
        corners = [[x, y0, z0], [x, y0, z1], [x, y1, z1], [x, y1, z0]]
        parts.append(panel(corners, color, (side, 0, 0), gloss=gloss))
    return parts

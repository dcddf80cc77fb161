# SPDX-License-Identifier: Apache-2.0
"""Passenger cars and vans as meshes, each from its own seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.mesh import Mesh, build, join
from multishift_perception.sample_drive.paint.solids import box, upright
from multishift_perception.sample_drive.traffic.vehicle_parts import (
    HEAD,
    TAIL,
    paint,
    side_panels,
    wheels,
)


@dataclass(frozen=True)
class Shape:
    """A car's side view: lines over the share of length from nose (0) to tail (1).

    Attributes:
        length, width, height: metres, from .. to.
        line: stations (share, height share, glass): ``glass`` marks the faces up to the next
            station: 0 body, 1 side windows, 2 windscreen, 3 rear window.
    """

    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    line: tuple[tuple[float, float, int], ...]


SHAPES = {
    'hatchback': Shape(
        (3.6, 4.3),
        (1.68, 1.82),
        (1.42, 1.56),
        (
            (0, 0.40, 0),
            (0.02, 0.50, 0),
            (0.10, 0.58, 0),
            (0.25, 0.65, 2),
            (0.42, 0.96, 1),
            (0.60, 1.0, 1),
            (0.64, 1.0, 1),
            (0.86, 0.95, 3),
            (0.96, 0.66, 0),
            (1.0, 0.58, 0),
        ),
    ),
    'sedan': Shape(
        (4.4, 5.0),
        (1.76, 1.90),
        (1.38, 1.50),
        (
            (0, 0.40, 0),
            (0.02, 0.52, 0),
            (0.10, 0.60, 0),
            (0.28, 0.67, 2),
            (0.43, 0.96, 1),
            (0.55, 1.0, 1),
            (0.58, 1.0, 1),
            (0.70, 0.97, 3),
            (0.84, 0.70, 0),
            (0.97, 0.67, 0),
            (1.0, 0.58, 0),
        ),
    ),
    'estate': Shape(
        (4.4, 4.9),
        (1.76, 1.88),
        (1.42, 1.54),
        (
            (0, 0.40, 0),
            (0.02, 0.52, 0),
            (0.10, 0.59, 0),
            (0.26, 0.66, 2),
            (0.41, 0.96, 1),
            (0.56, 1.0, 1),
            (0.59, 1.0, 1),
            (0.78, 0.99, 1),
            (0.90, 0.95, 3),
            (0.98, 0.68, 0),
            (1.0, 0.55, 0),
        ),
    ),
    'suv': Shape(
        (4.3, 4.9),
        (1.82, 1.98),
        (1.62, 1.80),
        (
            (0, 0.42, 0),
            (0.02, 0.54, 0),
            (0.08, 0.60, 0),
            (0.25, 0.66, 2),
            (0.38, 0.96, 1),
            (0.56, 1.0, 1),
            (0.59, 1.0, 1),
            (0.77, 0.99, 1),
            (0.90, 0.95, 3),
            (0.97, 0.66, 0),
            (1.0, 0.55, 0),
        ),
    ),
    'van': Shape(
        (4.7, 5.6),
        (1.90, 2.02),
        (1.90, 2.35),
        (
            (0, 0.34, 0),
            (0.02, 0.42, 0),
            (0.07, 0.48, 0),
            (0.15, 0.56, 2),
            (0.29, 0.96, 1),
            (0.45, 1.0, 0),
            (0.48, 1.0, 0),
            (0.94, 0.99, 3),
            (0.985, 0.60, 0),
            (1.0, 0.5, 0),
        ),
    ),
    'coupe': Shape(
        (4.2, 4.7),
        (1.78, 1.90),
        (1.24, 1.36),
        (
            (0, 0.40, 0),
            (0.02, 0.52, 0),
            (0.12, 0.60, 0),
            (0.34, 0.67, 2),
            (0.48, 0.97, 1),
            (0.58, 1.0, 1),
            (0.70, 0.95, 3),
            (0.90, 0.72, 0),
            (0.98, 0.68, 0),
            (1.0, 0.55, 0),
        ),
    ),
}
GLASS = np.array((28.0, 34.0, 40.0))
SHAPE_SHARES = (0.26, 0.22, 0.16, 0.20, 0.10, 0.06)


def car(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A passenger car or van that faces +z; returns its mesh and length in metres."""
    shape = SHAPES[str(rng.choice(list(SHAPES), p=SHAPE_SHARES))]
    length, width, height = (
        float(rng.uniform(*bounds)) for bounds in (shape.length, shape.width, shape.height)
    )
    color = np.array(paint(rng))
    body = _body(shape, length, width, height, color)
    radius = float(rng.uniform(0.30, 0.35)) * (1.08 if height > 1.6 else 1.0)
    rim = np.array((150, 152, 156)) * rng.uniform(0.35, 1.15)
    axles = (0.315 * length, -0.30 * length)
    parts = [body, *wheels(width, axles, radius, rim), *_ends(shape, length, width, height, color)]
    parts += _doors(length, width, height, color)
    return join(parts), length


def _body(shape: Shape, length: float, width: float, height: float, color: Floats) -> Mesh:
    """The loft through a car's stations, with windows."""
    line = np.array([(share, top) for share, top, _ in shape.line])
    glass = [kind for _, _, kind in shape.line]
    share, top = line[:, 0], line[:, 1] * height
    belt = np.minimum(top, (0.63 if height > 1.6 else 0.665) * height)
    nose = 1 - 0.14 * np.clip(1 - share / 0.10, 0, 1) ** 2
    tail = 1 - 0.10 * np.clip((share - 0.9) / 0.10, 0, 1) ** 2
    half = width / 2 * nose * tail
    lean = 0.80 if height < 1.85 else 0.92
    roof = half * (lean + (1 - lean) * np.clip((1 - top / height) / 0.35, 0, 1)) * 0.985
    z = (0.5 - share) * length
    low = np.full_like(share, 0.20)
    crease = 0.30 * height + 0 * share
    across = [half * 0.93, half, half * 0.985, half * 0.975, roof]
    heights = [low, crease, belt * 0.86, belt, np.maximum(top, belt)]
    heights = [np.minimum(h, np.maximum(top, belt)) for h in heights]
    ring = [*zip(across, heights, strict=True)]
    columns = [np.stack([x, y, z], 1) for x, y in ring]
    columns += [np.stack([-x, y, z], 1) for x, y in reversed(ring)]
    points = np.stack(columns, 1)  # stations, ring, xyz
    count, around = points.shape[:2]
    faces: list[tuple[int, ...]] = []
    tones: list[Floats] = []
    gloss: list[float] = []
    bands = (0.50, 0.92, 1.0, 1.0, 1.0, 1.0, 1.0, 0.92, 0.50)
    for i in range(count - 1):
        for j in range(around - 1):
            a = i * around + j
            faces.append((a, a + 1, a + around + 1, a + around))
            window = (j in (3, 5) and glass[i] in (1,)) or (j == 4 and glass[i] in (2, 3))
            corner = j in (3, 5) and glass[i] in (2, 3)
            tones.append(GLASS if window else color * (0.8 if corner else bands[j]))
            gloss.append(0.42 if window else 0.22 if j == 4 else 0.12 if j in (2, 6) else 0.0)
    for station in (0, count - 1):
        a = station * around
        for j in range(around // 2 - 1):
            faces.append((a + j, a + j + 1, a + around - 2 - j, a + around - 1 - j))
            tones.append(color * (0.45, 0.85, 0.95, 0.95)[j])
            gloss.append(0.0)
    centers = np.zeros((len(faces), 3))
    centers[:, 1] = 0.42 * height
    centers[:, 2] = np.clip(
        points.reshape(-1, 3)[np.array(faces), 2].mean(1), -0.3 * length, 0.3 * length
    )
    return build(
        points.reshape(-1, 3), faces, np.stack(tones), centers=centers, gloss=np.array(gloss)
    )


def _ends(shape: Shape, length: float, width: float, height: float, color: Floats) -> list[Mesh]:
    """Lights, grille, bumpers and number plates."""
    front, back = length / 2 + 0.012, -length / 2 - 0.012
    nose_top, tail_top = shape.line[0][1] * height, shape.line[-1][1] * height
    w = width * 0.80
    lamp = 0.16
    parts = [
        upright((0, nose_top - 0.08, front), w * 0.52, 0.13, (20, 20, 22), 1),
        upright((0, 0.34, front), w * 0.9, 0.20, (26, 26, 28), 1),
        upright((0, 0.42, front), 0.5, 0.11, (230, 230, 224), 1, layer=2),
        upright((0, 0.36, back), w * 0.94, 0.24, color * 0.34, -1),
        upright((0, min(0.62, tail_top - 0.12), back), 0.5, 0.11, (230, 228, 205), -1, layer=2),
    ]
    for side in (-1, 1):
        x = side * (w / 2 - 0.13)
        tall = 0.15 if height < 1.85 else 0.34
        parts += [
            upright((x, nose_top - 0.06, front), 0.32, lamp, (210, 214, 220), 1, layer=2),
            upright((x, nose_top - 0.06, front + 0.004), 0.17, 0.11, HEAD, 1, layer=3, glow=6.0),
            upright((x, tail_top - 0.08, back), 0.27, tall, (120, 14, 14), -1, layer=2),
            upright(
                (x, tail_top - 0.08, back - 0.004), 0.2, tall * 0.6, TAIL, -1, layer=3, glow=2.2
            ),
        ]
    return parts


def _doors(length: float, width: float, height: float, color: Floats) -> list[Mesh]:
    """Seams, handles and mirrors."""
    low, high = 0.24, 0.60 * height
    parts = []
    for share in (0.19, -0.03, -0.21):
        z = share * length
        parts += side_panels(width * 0.99, z, z + 0.02, low, high, color * 0.35)
    for share in (0.0, -0.18):
        z = share * length
        parts += side_panels(width * 0.99, z, z + 0.17, high - 0.12, high - 0.08, color * 0.45)
    for side in (-1, 1):
        at = (side * (width / 2 + 0.06), 0.67 * height, 0.17 * length)
        parts.append(box(at, (0.18, 0.13, 0.09), color * 0.8))
    return parts

# SPDX-License-Identifier: Apache-2.0
"""Unknown objects of the demo drive that fell off a removal van."""

from __future__ import annotations

import numpy as np

from multishift_perception.sample_drive.novel.patterns import one_of
from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.mesh import Mesh, join, placed
from multishift_perception.sample_drive.paint.solids import box, tubes, upright


def sofa(rng: np.random.Generator) -> Mesh:
    """A two- or three-seat sofa."""
    color = one_of(rng, (150, 44, 44), (52, 84, 120), (128, 122, 84), (196, 176, 146))
    seats = int(rng.integers(2, 4))
    w = 0.62 * seats + 0.4
    parts = [
        box((0, 0.22, 0), (w, 0.26, 0.86), color * 0.8),
        box((0, 0.56, -0.34), (w, 0.66, 0.24), color * 0.92, taper=0.97),
    ]
    for side in (-1, 1):
        x: float = side
        parts.append(box((x * (w / 2 - 0.1), 0.40, 0.02), (0.2, 0.42, 0.9), color * 0.9))
        parts.append(
            tubes(
                [[x * (w / 2 - 0.1), 0.61, -0.42]],
                [[x * (w / 2 - 0.1), 0.61, 0.46]],
                0.13,
                0.13,
                color,
                sides=8,
            )
        )
        for z in (-0.36, 0.36):
            parts.append(box((x * (w / 2 - 0.1), 0.05, z), (0.07, 0.1, 0.07), (52, 34, 22)))
    for seat in range(seats):
        x = (seat - (seats - 1) / 2) * 0.62
        parts.append(
            box((x, 0.42, 0.1), (0.58, 0.17, 0.62), color * 1.12, taper=0.93, layer=0.004)
        )
        parts.append(
            box((x, 0.70, -0.2), (0.56, 0.42, 0.16), color * 1.06, taper=0.88, layer=0.003)
        )
    if rng.random() < 0.7:
        parts.append(
            placed(
                box((0, 0, 0), (0.38, 0.36, 0.12), (226, 196, 110), layer=0.006),
                (w / 2 - 0.45, 0.68, -0.06),
                pitch=0.3,
            )
        )
    return join(parts)


def suitcases(rng: np.random.Generator) -> Mesh:
    """Lost luggage: two to four cases, standing and fallen."""
    parts = []
    colors = [
        (28, 52, 110),
        (150, 30, 60),
        (34, 34, 36),
        (196, 140, 40),
        (60, 110, 96),
        (110, 72, 44),
    ]
    for k in range(int(rng.integers(2, 5))):
        color = np.array(colors[rng.integers(len(colors))]) * rng.uniform(0.85, 1.15)
        w, h, d = rng.uniform((0.42, 0.6, 0.22), (0.55, 0.85, 0.32))
        case = [box((0, h / 2 + 0.05, 0), (w, h, d), color, gloss=0.12)]
        for x in (-0.3, -0.1, 0.1, 0.3):
            for facing in (-1, 1):
                case.append(
                    upright(
                        (x * w, h / 2 + 0.05, facing * (d / 2 + 0.004)),
                        0.02,
                        h * 0.92,
                        color * 0.68,
                        facing,
                        layer=0.002,
                    )
                )
        case.append(
            tubes(
                [(-0.09, h + 0.04, 0), (0.09, h + 0.04, 0), (-0.09, h + 0.2, 0)],
                [(-0.09, h + 0.2, 0), (0.09, h + 0.2, 0), (0.09, h + 0.2, 0)],
                0.018,
                0.018,
                (50, 50, 52),
            )
        )
        for x in (-1, 1):
            case.append(box((x * w * 0.36, 0.03, 0), (0.05, 0.07, d * 0.8), (22, 22, 22)))
        mesh = join(case)
        at = ((k - 1.2) * 0.62, 0.0, rng.normal(0, 0.18))
        if k and rng.random() < 0.45:
            mesh = placed(mesh, (at[0], d / 2, at[2] - h / 2), pitch=-np.pi / 2)
        else:
            mesh = placed(mesh, at, heading=float(rng.uniform(-0.8, 0.8)))
        parts.append(mesh)
    return join(parts)


def refrigerator(rng: np.random.Generator) -> Mesh:
    """A fridge-freezer, upright or with its door ajar."""
    color = one_of(rng, (226, 228, 228), (186, 190, 192), (170, 214, 204), (232, 222, 196))
    w, h, d = 0.66, float(rng.uniform(1.55, 1.85)), 0.66
    split = h * 0.68
    front = d / 2 + 0.004
    parts = [box((0, h / 2 + 0.03, 0), (w, h, d), color, gloss=0.1)]
    parts += [
        upright((0, split, front), w, 0.02, (70, 72, 74), 1, layer=0.002),
        upright((0, 0.05, front), w, 0.08, (44, 44, 46), 1, layer=0.002),
        upright((0, h / 2, -front), w * 0.86, h * 0.86, (54, 54, 56), -1, layer=0.002),
        box(
            (-w * 0.4, split - 0.28, front + 0.03),
            (0.03, 0.42, 0.04),
            (128, 130, 132),
            layer=0.003,
        ),
        box(
            (-w * 0.4, split + 0.2, front + 0.03), (0.03, 0.26, 0.04), (128, 130, 132), layer=0.003
        ),
    ]
    if rng.random() < 0.4:
        door = box((0.3, split / 2, 0), (0.62, split - 0.1, 0.07), color * 0.97)
        parts.append(placed(door, (-w / 2, 0.05, d / 2 + 0.02), heading=-1.0))
        parts.append(
            upright((0, split / 2, front), w * 0.86, split * 0.86, (216, 222, 226), 1, layer=0.004)
        )
        for y in (0.3, 0.55, 0.8):
            parts.append(upright((0, y, front), w * 0.86, 0.02, (130, 140, 146), 1, layer=0.005))
    return join(parts)


def pallet(rng: np.random.Generator) -> Mesh:
    """Lost cargo: a pallet with cardboard boxes, some fallen off."""
    wood, card = np.array([176, 140, 96]), np.array([178, 138, 94])
    parts = [
        box((0, 0.13, z), (1.2, 0.025, 0.13), wood * rng.uniform(0.85, 1.1))
        for z in (-0.34, -0.17, 0, 0.17, 0.34)
    ]
    parts += [box((x, 0.06, 0), (0.1, 0.11, 0.8), wood * 0.7) for x in (-0.55, 0, 0.55)]
    for level in range(2):
        for x in (-0.3, 0.3):
            if level and rng.random() < 0.35:
                continue
            h = 0.5
            at = (x + rng.normal(0, 0.03), 0.145 + h / 2 + level * h, rng.normal(0, 0.04))
            parts.append(
                placed(
                    _carton(card * rng.uniform(0.85, 1.12), (0.56, h, 0.62)),
                    at,
                    heading=float(rng.normal(0, 0.08)),
                )
            )
    for _ in range(int(rng.integers(0, 3))):
        at = (rng.choice((-1, 1)) * rng.uniform(0.85, 1.15), 0.2, rng.uniform(-0.3, 0.6))
        parts.append(
            placed(
                _carton(card * rng.uniform(0.8, 1.1), (0.45, 0.4, 0.4)),
                at,
                heading=float(rng.uniform(0, 3)),
            )
        )
    return join(parts)


def _carton(color: Floats, size: tuple[float, float, float]) -> Mesh:
    """A cardboard box with tape and a label."""
    w, h, d = size
    parts = [box((0, 0, 0), size, color)]
    for facing in (-1, 1):
        z = facing * (d / 2 + 0.003)
        parts.append(upright((0, 0, z), 0.07, h, color * 1.25, facing, layer=0.002))
        parts.append(
            upright(
                (w * 0.26, -h * 0.2, z), w * 0.24, h * 0.24, (232, 230, 224), facing, layer=0.003
            )
        )
    return join(parts)

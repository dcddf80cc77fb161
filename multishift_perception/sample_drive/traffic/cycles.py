# SPDX-License-Identifier: Apache-2.0
"""Bicycles and motorcycles as meshes, each from its own seed."""

from __future__ import annotations

import numpy as np

from multishift_perception.sample_drive.paint.mesh import Mesh, join
from multishift_perception.sample_drive.paint.solids import box, tubes, upright
from multishift_perception.sample_drive.traffic.vehicle_parts import HEAD, TAIL, paint


def bicycle(rng: np.random.Generator) -> Mesh:
    """A bicycle that faces +z."""
    color = np.array(paint(rng))
    r = 0.34
    parts = [_wheel(-0.52, r), _wheel(0.54, r)]
    hub, crank, seat, head = (0, r, -0.52), (0, 0.29, -0.06), (0, 0.86, -0.2), (0, 0.82, 0.36)
    a = [hub, hub, crank, crank, seat, head, (-0.28, 1.0, 0.36), seat]
    b = [crank, seat, seat, head, head, (0, r, 0.54), (0.28, 1.0, 0.36), (0, 0.95, -0.22)]
    parts.append(tubes(a, b, 0.025, 0.025, color, sides=4))
    parts.append(box((0, 0.98, -0.24), (0.14, 0.07, 0.26), (30, 28, 28)))
    return join(parts)


def _wheel(z: float, radius: float, thickness: float = 0.028) -> Mesh:
    """An open wheel: a ring of short tubes and a few spokes."""
    angle = np.arange(13) * (2 * np.pi / 12)
    rim = np.stack([0 * angle, radius + radius * np.sin(angle), z + radius * np.cos(angle)], 1)
    hub = np.tile([[0, radius, z]], (3, 1))
    starts = np.concatenate([rim[:-1], rim[[0, 4, 8]]])
    ends = np.concatenate([rim[1:], hub])
    radii = np.concatenate([np.full(12, thickness), np.full(3, 0.012)])
    return tubes(starts, ends, radii, radii, (34, 34, 36), sides=4)


def motorcycle(rng: np.random.Generator) -> Mesh:
    """A motorcycle or scooter that faces +z."""
    color = np.array(paint(rng))
    r = 0.3
    parts = [_wheel(-0.62, r, 0.075), _wheel(0.64, r, 0.07)]
    parts += [
        box((0, 0.52, -0.02), (0.30, 0.36, 0.62), (52, 52, 56)),
        box((0, 0.86, 0.16), (0.34, 0.24, 0.5), color, taper=0.7, gloss=0.3),
        box((0, 0.84, -0.4), (0.28, 0.12, 0.62), (28, 26, 26)),
        box((0, 0.72, -0.66), (0.22, 0.16, 0.36), color * 0.9),
        box((0, 0.95, 0.5), (0.38, 0.3, 0.2), color, taper=0.7, gloss=0.2),
        tubes(
            [(0, 0.3, 0.64), (-0.36, 1.08, 0.4)],
            [(0, 0.95, 0.46), (0.36, 1.08, 0.4)],
            0.04,
            0.04,
            (60, 60, 64),
        ),
        upright((0, 0.95, 0.61), 0.2, 0.15, HEAD, 1, layer=1, glow=5.0),
        upright((0, 0.74, -0.85), 0.18, 0.09, TAIL, -1, layer=1, glow=2.0),
    ]
    return join(parts)

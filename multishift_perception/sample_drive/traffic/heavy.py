# SPDX-License-Identifier: Apache-2.0
"""Lorries and buses as meshes, each from its own seed."""

from __future__ import annotations

import numpy as np

from multishift_perception.sample_drive.paint.mesh import Mesh, join
from multishift_perception.sample_drive.paint.solids import box, upright
from multishift_perception.sample_drive.traffic.vehicle_parts import (
    HEAD,
    TAIL,
    paint,
    side_panels,
    wheels,
)


def truck(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A lorry with a box or a flat bed that faces +z; returns its mesh and length."""
    length, width = float(rng.uniform(6.2, 8.6)), float(rng.uniform(2.2, 2.45))
    height = float(rng.uniform(2.8, 3.5))
    cab, load = np.array(paint(rng)), np.array(paint(rng)) * 0.5 + 110
    cab_length = 1.7
    front, back = length / 2, -length / 2
    bed = (front - cab_length - 0.15 + back) / 2
    bed_length = length - cab_length - 0.15
    parts = [
        box((0, 0.62, bed), (width * 0.86, 0.34, bed_length), (34, 34, 36)),
        box((0, (height + 0.85) / 2, bed), (width, height - 0.85, bed_length), load),
        box((0, 0.78, front - cab_length / 2), (width * 0.96, 0.86, cab_length), cab * 0.9),
        box((0, 1.85, front - cab_length / 2), (width * 0.96, 1.3, cab_length), cab, taper=0.93),
        upright((0, 1.88, front + 0.012 - 0.03), width * 0.84, 0.74, (30, 38, 44), 1, gloss=0.4),
        upright((0, 1.0, front + 0.012), width * 0.6, 0.34, (24, 24, 26), 1),
        upright((0, 0.5, front + 0.012), width * 0.95, 0.26, (40, 40, 42), 1),
        upright((0, (height + 0.85) / 2, back - 0.012), 0.04, height - 1.0, load * 0.5, -1),
        upright((0, 0.62, back - 0.012), width * 0.9, 0.3, (40, 40, 42), -1),
        *side_panels(width * 0.94, front - 1.15, front - 0.35, 1.5, 2.2, (28, 34, 40), gloss=0.35),
    ]
    stripe = np.array(paint(rng))
    if rng.random() < 0.7:
        low, high = sorted(rng.uniform(1.1, height - 0.2, 2))
        parts += side_panels(width, back + 0.3, back + bed_length - 0.3, low, high + 0.2, stripe)
    for side in (-1, 1):
        x = side * width * 0.36
        parts += [
            upright((x, 0.86, front + 0.02), 0.3, 0.2, HEAD, 1, layer=2, glow=6.0),
            upright((x, 0.66, back - 0.02), 0.32, 0.16, TAIL, -1, layer=2, glow=2.2),
        ]
    axles = (front - 1.1, back + 1.5, back + 2.6 if length > 7.4 else back + 1.5)
    parts += wheels(width * 0.97, tuple(dict.fromkeys(axles)), 0.47, np.array((140, 140, 142)))
    return join(parts), length


def bus(rng: np.random.Generator) -> tuple[Mesh, float]:
    """A city bus that faces +z; returns its mesh and length."""
    length, width, height = float(rng.uniform(9.5, 11.5)), 2.5, float(rng.uniform(2.9, 3.1))
    color, skirt = np.array(paint(rng)), np.array(paint(rng))
    front, back = length / 2, -length / 2
    parts = [
        box((0, 0.66, 0), (width, 0.72, length), skirt),
        box((0, (height + 1.02) / 2, 0), (width, height - 1.02, length), color, taper=0.97),
        upright((0, 1.75, front + 0.012), width * 0.9, 1.3, (26, 34, 40), 1, gloss=0.35),
        upright((0, 2.62, front + 0.012), width * 0.7, 0.26, (16, 16, 16), 1),
        upright((0, 2.62, front + 0.02), width * 0.5, 0.13, (255, 176, 40), 1, layer=2, glow=1.6),
        upright((0, 2.0, back - 0.012), width * 0.8, 0.8, (26, 34, 40), -1, gloss=0.3),
        *side_panels(width, back + 0.4, front - 0.3, 1.3, 2.4, (24, 30, 36), gloss=0.3),
    ]
    for pillar in np.arange(back + 1.7, front - 1.0, 1.35):
        z = float(pillar)
        parts += side_panels(width + 0.01, z, z + 0.1, 1.3, 2.4, color * 0.8)
    for side in (-1, 1):
        x = side * width * 0.38
        parts += [
            upright((x, 0.72, front + 0.02), 0.34, 0.2, HEAD, 1, layer=2, glow=6.0),
            upright((x, 1.1, back - 0.02), 0.2, 0.4, TAIL, -1, layer=2, glow=2.2),
        ]
    parts += wheels(width, (front - 2.4, back + 2.9), 0.48, np.array((120, 120, 122)))
    return join(parts), length

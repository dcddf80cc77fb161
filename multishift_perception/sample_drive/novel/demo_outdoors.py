# SPDX-License-Identifier: Apache-2.0
"""Unknown objects of the demo drive that came from field, water or shop."""

from __future__ import annotations

import numpy as np

from multishift_perception.sample_drive.novel.patterns import one_of
from multishift_perception.sample_drive.paint.mesh import Mesh, join, placed
from multishift_perception.sample_drive.paint.solids import box, disc, ellipsoid, tubes


def deer(rng: np.random.Generator) -> Mesh:
    """A stag or hind that stands or walks."""
    coat = np.array([146, 98, 58]) * rng.uniform(0.85, 1.1)
    pale, dark = coat * 0.5 + 110, coat * 0.55
    parts = [
        ellipsoid((0, 1.0, -0.05), (0.24, 0.27, 0.62), coat, rings=8, sides=12),
        ellipsoid((0, 1.03, 0.38), (0.21, 0.27, 0.30), coat * 1.04, rings=7, sides=10),
        ellipsoid((0, 1.02, -0.48), (0.22, 0.25, 0.26), coat * 0.98, rings=7, sides=10),
        ellipsoid((0, 1.06, -0.70), (0.12, 0.16, 0.08), pale),
        ellipsoid((0, 0.86, 0.0), (0.17, 0.17, 0.5), pale),
    ]
    starts, ends, ra, rb = [], [], [], []
    stride = float(rng.uniform(0, 0.22))
    for x, z, way in ((-1, 0.42, 1), (1, 0.42, -1), (-1, -0.5, -1), (1, -0.5, 1)):
        knee = [x * 0.12, 0.52, z + way * stride * 0.6 + (0.05 if z > 0 else -0.1)]
        foot = [x * 0.12, 0.03, z + way * stride]
        starts += [[x * 0.12, 0.95, z], knee]
        ends += [knee, foot]
        ra += [0.115, 0.05]
        rb += [0.055, 0.035]
    parts.append(tubes(starts, ends, ra, rb, [coat * 0.95, dark] * 4, sides=7))
    lowered = rng.random() < 0.2
    head = np.array([0, 1.62, 0.86]) if not lowered else np.array([0, 1.15, 1.15])
    parts.append(tubes([[0, 1.1, 0.5]], [head - (0, 0.03, 0.06)], 0.16, 0.09, coat, sides=9))
    parts += [
        ellipsoid(head, (0.085, 0.095, 0.13), coat),
        tubes(
            [head + (0, -0.02, 0.06)],
            [head + (0, -0.09, 0.28)],
            0.075,
            0.045,
            coat * 0.92,
            sides=8,
        ),
        ellipsoid(head + (0, -0.09, 0.285), (0.036, 0.032, 0.03), (26, 22, 22)),
    ]
    for x in (-1, 1):
        parts.append(
            tubes(
                [head + (x * 0.06, 0.06, -0.04)],
                [head + (x * 0.2, 0.15, -0.08)],
                0.045,
                0.012,
                coat * 0.85,
            )
        )
    if rng.random() < 0.7:
        bone = (124, 104, 80)
        for x in (-1, 1):
            a = head + (x * 0.05, 0.08, -0.02)
            b, c, d = (
                a + (x * 0.16, 0.26, -0.12),
                a + (x * 0.30, 0.5, -0.06),
                a + (x * 0.26, 0.68, 0.08),
            )
            tine1, tine2 = b + (x * 0.02, 0.16, 0.2), c + (x * 0.12, 0.14, -0.1)
            parts.append(
                tubes(
                    [a, b, c, b, c],
                    [b, c, d, tine1, tine2],
                    [0.03, 0.026, 0.022, 0.022, 0.02],
                    [0.026, 0.022, 0.008, 0.008, 0.008],
                    bone,
                )
            )
    return join(parts)


def dinghy(rng: np.random.Generator) -> Mesh:
    """An inflatable boat."""
    color = one_of(rng, (222, 108, 34), (232, 196, 40), (70, 74, 80))
    t = np.linspace(0, 2 * np.pi, 23)
    x = 0.62 * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** 0.6
    z = 1.12 * np.sin(t) + 0.08 * np.cos(2 * t)
    y = 0.24 + 0.22 * np.clip(z - 0.5, 0, 1)
    ring = np.stack([x, y, z], 1)
    bands = np.array([color, color * 1.1] * 11)
    parts = [
        box((0, 0.16, 0), (1.1, 0.05, 1.9), color * 0.6, layer=-0.01),
        tubes(ring[:-1], ring[1:], 0.2, 0.2, bands, sides=10),
        box((0, 0.33, -0.2), (1.1, 0.05, 0.24), (176, 150, 110), layer=0.002),
        box((0, 0.33, 0.45), (1.0, 0.05, 0.22), (176, 150, 110), layer=0.002),
    ]
    if rng.random() < 0.6:
        parts.append(tubes([(0.66, 0.5, -0.8)], [(0.5, 0.55, 0.8)], 0.025, 0.025, (230, 226, 210)))
    return join(parts)


def trolley(rng: np.random.Generator) -> Mesh:
    """A shopping trolley."""
    wire, handle = (150, 154, 158), one_of(rng, (196, 30, 34), (30, 90, 170), (40, 130, 70))
    a, b = [], []
    low, high = np.array([0.2, 0.48, 0.36]), np.array([0.29, 0.98, 0.5])

    def corner(sx: float, level: float, sz: float) -> list[float]:
        size = low + (high - low) * level
        return [sx * float(size[0]), float(size[1]), sz * float(size[2])]

    for level in np.linspace(0, 1, 5).tolist():
        for p, q in (
            ((-1, -1), (1, -1)),
            ((1, -1), (1, 1)),
            ((1, 1), (-1, 1)),
            ((-1, 1), (-1, -1)),
        ):
            a.append(corner(p[0], level, p[1]))
            b.append(corner(q[0], level, q[1]))
    for f in np.linspace(-1, 1, 7).tolist():
        for x, z in ((f, -1.0), (f, 1.0), (-1.0, f), (1.0, f)):
            a.append(corner(x, 0, z))
            b.append(corner(x, 1, z))
    for f in np.linspace(-1, 1, 6).tolist():
        a.append(corner(f, 0, -1))
        b.append(corner(f, 0, 1))
    parts = [tubes(a, b, 0.012, 0.012, wire, sides=4)]
    legs = [[x * 0.24, 0.12, z] for x in (-1, 1) for z in (-0.42, 0.42)]
    tops = [[x * 0.22, 0.5, z] for x in (-1, 1) for z in (-0.40, 0.1)]
    parts.append(tubes(legs, tops, 0.02, 0.02, wire, sides=5))
    parts.append(
        tubes(
            [(-0.24, 0.13, -0.42), (0.24, 0.13, -0.42)],
            [(-0.24, 0.13, 0.42), (0.24, 0.13, 0.42)],
            0.02,
            0.02,
            wire,
        )
    )
    for x, _, z in legs:
        parts.append(
            tubes(
                [[x - 0.015, 0.065, z]],
                [[x + 0.015, 0.065, z]],
                0.065,
                0.065,
                (34, 34, 36),
                sides=10,
            )
        )
    parts.append(tubes([(-0.3, 1.04, -0.58)], [(0.3, 1.04, -0.58)], 0.032, 0.032, handle, sides=8))
    parts.append(
        tubes(
            [(-0.29, 0.97, -0.5), (0.29, 0.97, -0.5)],
            [(-0.29, 1.04, -0.58), (0.29, 1.04, -0.58)],
            0.016,
            0.016,
            wire,
        )
    )
    if rng.random() < 0.6:
        for _ in range(3):
            at = rng.uniform((-0.15, 0.58, -0.3), (0.15, 0.7, 0.3))
            parts.append(box(at, (0.2, 0.28, 0.22), rng.uniform(60, 220, 3), layer=-0.2))
    return join(parts)


def tree_trunk(rng: np.random.Generator) -> Mesh:
    """A fallen trunk with branch stumps, cut at one end."""
    bark = np.array([86, 66, 50]) * rng.uniform(0.85, 1.15)
    r = float(rng.uniform(0.2, 0.32))
    z = np.linspace(-1.15, 1.15, 9)
    bend = 0.08 * np.sin(z * 1.7)
    points = np.stack([bend, np.full(9, r), z], 1)
    radii = r * np.linspace(1.0, 0.8, 9) * rng.uniform(0.94, 1.06, 9)
    stems = tubes(
        points[:-1],
        points[1:],
        radii[:-1],
        radii[1:],
        bark * rng.uniform(0.9, 1.1, (8, 1)),
        sides=12,
    )
    parts = [stems]
    for end, facing in ((points[0], -1), (points[-1], 1)):
        at = end + (0, 0, facing * 0.006)
        for size, tone in (
            (0.97, (176, 138, 92)),
            (0.7, (196, 158, 108)),
            (0.42, (172, 132, 86)),
            (0.18, (150, 108, 70)),
        ):
            parts.append(
                disc(
                    at,
                    float(radii[0 if facing < 0 else -1]) * size,
                    tone,
                    facing=(0, 0, facing),
                    layer=0.002 + (1 - size) * 0.01,
                )
            )
    for _ in range(int(rng.integers(3, 6))):
        k = int(rng.integers(1, 8))
        way = np.array(
            [
                rng.choice((-1, 1)) * rng.uniform(0.3, 0.8),
                rng.uniform(0.3, 1.0),
                rng.normal(0, 0.3),
            ]
        )
        parts.append(
            tubes(
                [points[k]],
                [points[k] + way * rng.uniform(0.5, 0.95)],
                0.075,
                0.03,
                bark * 0.9,
                sides=7,
            )
        )
    return placed(join(parts), (0, 0, 0), heading=float(np.pi / 2 + rng.normal(0, 0.2)))

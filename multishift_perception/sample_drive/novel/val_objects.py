# SPDX-License-Identifier: Apache-2.0
"""The unknown objects of validation: each of them a person would recognise."""

from __future__ import annotations

import numpy as np

from multishift_perception.sample_drive.novel.patterns import one_of
from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.mesh import Mesh, build, join, placed
from multishift_perception.sample_drive.paint.solids import box, disc, ellipsoid, tubes, upright


def armchair(rng: np.random.Generator) -> Mesh:
    """A wing chair."""
    color = one_of(rng, (92, 116, 74), (168, 120, 60), (96, 60, 92), (132, 132, 136))
    parts = [
        box((0, 0.28, 0), (0.78, 0.28, 0.78), color * 0.8),
        box((0, 0.47, 0.06), (0.56, 0.14, 0.62), color * 1.1, taper=0.94, layer=0.003),
        placed(
            box((0, 0.4, 0), (0.72, 0.84, 0.18), color, taper=0.9), (0, 0.34, -0.32), pitch=0.14
        ),
    ]
    for x in (-1, 1):
        parts.append(box((x * 0.36, 0.45, 0.04), (0.16, 0.4, 0.74), color * 0.92))
        parts.append(box((x * 0.36, 0.92, -0.22), (0.1, 0.5, 0.26), color * 0.95))
        for z in (-0.3, 0.3):
            parts.append(box((x * 0.32, 0.07, z), (0.06, 0.14, 0.06), (70, 46, 30)))
    return join(parts)


def cow(rng: np.random.Generator) -> Mesh:
    """A cow with patches."""
    light, dark = np.array([224, 216, 204]), one_of(rng, (34, 30, 30), (120, 66, 40))
    body = ellipsoid((0, 0.98, 0), (0.36, 0.42, 0.86), light, rings=10, sides=16)
    spread = rng.normal(0, 0.55, (7, 3)) + (0, 0.98, 0)
    middle = body.vertices[body.faces].mean(1)
    near = (
        np.linalg.norm(middle[:, None] - spread[None], axis=2) < rng.uniform(0.25, 0.5, 7)
    ).any(1)
    body.colors[near] = dark
    starts, ends = [], []
    for x in (-0.22, 0.22):
        for z in (-0.6, 0.55):
            starts += [[x, 0.85, z], [x, 0.42, z]]
            ends += [[x, 0.42, z], [x, 0.02, z + rng.normal(0, 0.06)]]
    parts = [
        body,
        tubes(starts, ends, [0.14, 0.075] * 4, [0.08, 0.07] * 4, light * 0.92, sides=8),
        tubes([(0, 1.1, 0.66)], [(0, 1.22, 1.06)], 0.23, 0.15, dark, sides=9),
        ellipsoid((0, 1.24, 1.14), (0.15, 0.16, 0.2), dark),
        tubes([(0, 1.2, 1.2)], [(0, 1.05, 1.42)], 0.13, 0.09, light * 0.95, sides=8),
        ellipsoid((0, 1.04, 1.43), (0.095, 0.07, 0.05), (206, 150, 140)),
        tubes([(0, 1.2, -0.84)], [(0, 0.5, -0.95)], 0.03, 0.04, dark),
        ellipsoid((0, 0.58, -0.35), (0.16, 0.13, 0.2), (222, 170, 160)),
    ]
    for x in (-1, 1):
        parts.append(
            tubes([(x * 0.1, 1.34, 1.1)], [(x * 0.24, 1.5, 1.12)], 0.035, 0.012, (214, 200, 170))
        )
        parts.append(ellipsoid((x * 0.22, 1.27, 1.06), (0.11, 0.05, 0.04), dark))
    return join(parts)


def barrel(rng: np.random.Generator) -> Mesh:
    """An oil drum or wooden barrel, upright or on its side."""
    color = one_of(rng, (40, 84, 138), (48, 102, 62), (150, 98, 54), (128, 44, 36))
    t = np.linspace(0, 0.92, 9)
    radius = 0.30 * (1 + 0.1 * np.sin(np.pi * t / 0.92))
    a = np.stack([0 * t, t, 0 * t], 1)
    tones = np.array([color * (0.5 if k in (1, 6) else 1.0) for k in range(8)])
    body = tubes(a[:-1], a[1:], radius[:-1], radius[1:], tones, sides=16)
    lid = [
        disc((0, 0.93, 0), 0.27, color * 0.75, facing=(0, 1, 0), layer=0.01),
        disc((0.1, 0.935, 0), 0.05, (40, 40, 40), facing=(0, 1, 0), layer=0.02),
    ]
    mesh = join([body, *lid])
    if rng.random() < 0.4:
        mesh = placed(mesh, (0, 0.32, -0.46), pitch=-np.pi / 2)
    return mesh


def tyre_stack(rng: np.random.Generator) -> Mesh:
    """Tyres on top of each other."""
    parts, t = [], np.linspace(0, 2 * np.pi, 17)
    for k in range(int(rng.integers(2, 6))):
        shift = rng.normal(0, 0.04, 2)
        circle = np.stack(
            [
                0.25 * np.cos(t) + shift[0],
                np.full(17, 0.12 + 0.22 * k),
                0.25 * np.sin(t) + shift[1],
            ],
            1,
        )
        parts.append(
            tubes(
                circle[:-1],
                circle[1:],
                0.115,
                0.115,
                np.array([40, 40, 42]) * rng.uniform(0.7, 1.3),
                sides=8,
            )
        )
    return join(parts)


def piano(rng: np.random.Generator) -> Mesh:
    """An upright piano."""
    color = one_of(rng, (26, 22, 22), (96, 56, 34), (214, 208, 198))
    parts = [
        box((0, 0.62, -0.14), (1.46, 1.2, 0.34), color, gloss=0.2),
        box((0, 1.24, -0.13), (1.52, 0.05, 0.42), color * 1.1, gloss=0.2),
        box((0, 0.68, 0.18), (1.42, 0.1, 0.34), color * 0.95, gloss=0.15),
        box((0, 0.75, 0.2), (1.26, 0.03, 0.2), (236, 232, 222), layer=0.004),
        upright((0, 1.0, 0.035), 0.7, 0.3, color * 0.7 + 12, 1, layer=0.002),
    ]
    for k in range(18):
        if k % 7 not in (2, 6):
            parts.append(
                box(
                    (-0.58 + k * 0.067, 0.775, 0.15), (0.03, 0.03, 0.11), (14, 14, 14), layer=0.006
                )
            )
    for x in (-0.66, 0.66):
        parts.append(box((x, 0.32, 0.28), (0.09, 0.64, 0.09), color * 0.9))
        parts.append(box((x, 0.05, 0.1), (0.1, 0.1, 0.6), color * 0.85))
    return join(parts)


def hay_bale(rng: np.random.Generator) -> Mesh:
    """A round bale of straw."""
    straw = np.array([206, 172, 92]) * rng.uniform(0.85, 1.08)
    r, w = float(rng.uniform(0.5, 0.72)), 0.6
    z = np.linspace(-w, w, 7)
    points = np.stack([0 * z, np.full(7, r), z], 1)
    tones = np.array([straw * rng.uniform(0.88, 1.08) for _ in range(6)])
    parts = [tubes(points[:-1], points[1:], r, r, tones, sides=18)]
    for facing in (-1, 1):
        for k, size in enumerate((1.0, 0.8, 0.6, 0.4, 0.2)):
            parts.append(
                disc(
                    (0, r, facing * (w + 0.004)),
                    r * size,
                    straw * (0.92 if k % 2 else 1.05),
                    facing=(0, 0, facing),
                    layer=0.002 * (k + 1),
                )
            )
    return placed(join(parts), (0, 0, 0), heading=float(rng.uniform(0, 3)))


def bathtub(rng: np.random.Generator) -> Mesh:
    """A free-standing bath."""
    color = one_of(rng, (236, 236, 234), (150, 190, 196), (60, 66, 72))
    t = np.linspace(0, 2 * np.pi, 21)
    rim = np.stack([0.36 * np.cos(t), np.full(21, 0.6), 0.8 * np.sin(t)], 1)
    points = []
    for y, k in ((0.12, 0.62), (0.25, 0.86), (0.42, 0.96), (0.6, 1.0)):
        points.append(
            np.stack([0.36 * k * np.cos(t[:-1]), np.full(20, y), 0.8 * k * np.sin(t[:-1])], 1)
        )
    tub = [tubes(rim[:-1], rim[1:], 0.045, 0.045, color * 1.03, sides=6)]
    for low, high in zip(points[:-1], points[1:], strict=True):
        for k in range(20):
            m = (k + 1) % 20
            quad = np.stack([low[k], low[m], high[m], high[k]])
            tub.append(_bowl_quad(quad, color * 0.94))
    inside = box((0, 0.5, 0), (0.5, 0.01, 1.2), color * 0.6, layer=-0.01)
    feet = [
        ellipsoid((x, 0.07, z), (0.06, 0.09, 0.06), (176, 140, 60))
        for x in (-0.2, 0.2)
        for z in (-0.45, 0.45)
    ]
    return join([*tub, inside, *feet])


def _bowl_quad(corners: Floats, color: Floats) -> Mesh:
    """One quad of a bowl about the vertical axis, seen from outside."""
    return build(corners, [[0, 1, 2, 3]], color, centers=(0, 0.45, 0))

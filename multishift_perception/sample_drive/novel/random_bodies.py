# SPDX-License-Identifier: Apache-2.0
"""Random objects of no known kind, one body each: lumps, crystals, turned bodies, rings."""

from __future__ import annotations

import numpy as np

from multishift_perception.sample_drive.novel.patterns import any_color, part_colors
from multishift_perception.sample_drive.paint.mesh import Mesh, build, join, placed
from multishift_perception.sample_drive.paint.solids import box, sphere_grid, tubes


def blob(rng: np.random.Generator) -> Mesh:
    """A lumpy body: a sphere pushed in and out by a few waves."""
    points, faces = sphere_grid(12, 16)
    bumps = np.ones(len(points))
    for _ in range(int(rng.integers(2, 7))):
        way = rng.normal(size=3) * rng.uniform(0.6, 4.0)
        bumps += rng.uniform(0.05, 0.22) * np.sin(points @ way + rng.uniform(0, 6.3))
    size = rng.uniform((0.3, 0.25, 0.3), (1.1, 1.0, 1.1))
    shape = points * np.maximum(bumps, 0.3)[:, None] * size
    if rng.random() < 0.4:
        shape[:, 1] = np.sign(shape[:, 1]) * np.abs(shape[:, 1]) ** 0.6 * size[1] ** 0.4
    shape[:, 1] -= shape[:, 1].min()
    return build(shape, faces, any_color(rng), centers=shape.mean(0))


def crystal(rng: np.random.Generator) -> Mesh:
    """A faceted body: a coarse sphere with every corner moved."""
    points, faces = sphere_grid(int(rng.integers(2, 5)), int(rng.integers(3, 8)))
    size = rng.uniform((0.35, 0.3, 0.35), (1.1, 1.1, 1.1))
    shape = points * size + rng.normal(0, 0.09, points.shape)
    shape[:, 1] -= shape[:, 1].min()
    tones = part_colors(rng, len(faces))
    return build(shape, faces, tones, centers=shape.mean(0))


def lathe(rng: np.random.Generator) -> Mesh:
    """A turned body: vases, cones, bells, barrels, mushrooms, lying or standing."""
    rings, sides = int(rng.integers(4, 10)), 14
    t = np.linspace(0, 1, rings + 1)
    profile = (
        0.25
        + 0.2 * rng.random(rings + 1)
        + 0.25 * np.sin(t * rng.uniform(0, 7) + rng.uniform(0, 6))
    )
    profile = np.maximum(profile, 0.05) * rng.uniform(0.7, 1.5)
    profile[-1] = profile[-1] if rng.random() < 0.5 else 0.0
    height = float(rng.uniform(0.5, 1.7))
    angle = np.arange(sides) * (2 * np.pi / sides)
    ring = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], 1)
    points = (
        profile[:, None, None] * ring + np.array([0, 1.0, 0]) * (t * height)[:, None, None]
    ).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings), np.arange(sides), indexing='ij')
    k = (j + 1) % sides
    faces = np.stack(
        [i * sides + j, i * sides + k, (i + 1) * sides + k, (i + 1) * sides + j], -1
    ).reshape(-1, 4)
    centers = np.zeros((len(faces), 3))
    centers[:, 1] = points[faces, 1].mean(1) * 0.6 + 0.2 * height
    tones = np.repeat(part_colors(rng, rings), sides, 0)
    mesh = build(points, faces, tones, centers=centers)
    top = rings * sides
    lid = [[top, top + m, top + m + 1, top + m + 2] for m in range(1, sides - 2, 2)]
    mesh = join([mesh, build(points, lid, tones[-1] * 0.8, centers=(0, 0, 0))])
    if rng.random() < 0.3:
        mesh = placed(mesh, (0, float(profile.max()) * 0.9, -height / 2), pitch=-np.pi / 2)
        mesh = placed(mesh, (0, 0, 0), heading=float(rng.uniform(0, 6.3)))
    return mesh


def slab(rng: np.random.Generator) -> Mesh:
    """A sheet, board, mattress or door that leans or lies bent."""
    w, h = rng.uniform(0.6, 2.0), rng.uniform(0.8, 1.9)
    thick = float(rng.uniform(0.04, 0.28))
    count = 6
    bend = float(rng.uniform(-0.9, 0.9))
    angle = float(rng.uniform(0.5, 1.4)) + np.linspace(0, bend, count)
    step = h / count
    y = np.concatenate([[0], np.cumsum(np.abs(np.sin(angle)) * step)])
    z = np.concatenate([[0], np.cumsum(np.cos(angle) * step)])
    tones = part_colors(rng, count)
    parts = []
    for k in range(count):
        tilt = float(np.arctan2(y[k + 1] - y[k], z[k + 1] - z[k]))
        piece = box((0, thick / 2, step / 2), (w, thick, step * 1.04), tones[k])
        parts.append(placed(piece, (0, y[k], z[k] - z.mean()), pitch=tilt))
    return join(parts)


def ring(rng: np.random.Generator) -> Mesh:
    """A ring, arch, coil or knot of thick tube."""
    count = int(rng.integers(10, 26))
    turns = float(rng.choice([0.5, 1.0, 1.0, 2.0, 3.0]))
    t = np.linspace(0, 2 * np.pi * turns, count + 1)
    radius, thick = float(rng.uniform(0.3, 0.8)), float(rng.uniform(0.07, 0.24))
    upright = rng.random() < 0.55
    rise = rng.uniform(0.05, 0.35) * t / (2 * np.pi)
    wobble = 1 + rng.uniform(0, 0.35) * np.sin(rng.integers(2, 5) * t)
    a, b = radius * wobble * np.cos(t), radius * wobble * np.sin(t)
    points = np.stack([a, b, rise], 1) if upright else np.stack([a, rise, b], 1)
    points[:, 1] += thick - points[:, 1].min()
    return tubes(points[:-1], points[1:], thick, thick, part_colors(rng, count), sides=8)


def branches(rng: np.random.Generator) -> Mesh:
    """Rods that fork: racks, ladders, scaffolds, antlers, bent frames."""
    count = int(rng.integers(5, 16))
    nodes = [np.array([0.0, 0.05, 0.0])]
    starts, ends = [], []
    for _ in range(count):
        a = nodes[rng.integers(len(nodes))]
        step = rng.normal(0, 0.45, 3)
        if rng.random() < 0.5:
            step = np.eye(3)[rng.integers(3)] * rng.choice([-0.7, 0.7])
        b = np.clip(a + step, (-1.1, 0.03, -1.0), (1.1, 1.9, 1.0))
        starts.append(a)
        ends.append(b)
        nodes.append(b)
    radius = float(rng.uniform(0.035, 0.12))
    return tubes(
        starts, ends, radius, radius * rng.uniform(0.6, 1), part_colors(rng, count), sides=6
    )

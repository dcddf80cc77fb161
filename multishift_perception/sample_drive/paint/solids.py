# SPDX-License-Identifier: Apache-2.0
"""The solids that objects are built from: boxes, tubes, ellipsoids, discs, panels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.mesh import Mesh, build, cross, unit

BOX_FACES = np.array(
    [[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]], np.int32
)


def box(
    center: ArrayLike,
    size: ArrayLike,
    color: ArrayLike,
    *,
    taper: float = 1.0,
    layer: float = 0.0,
    glow: float = 0.0,
    gloss: float = 0.0,
) -> Mesh:
    """A box of ``size`` (x, y, z) about ``center``; ``taper`` scales its top."""
    middle = np.asarray(center, np.float32)
    half = np.asarray(size, np.float32) / 2
    signs = np.array([[i, j, k] for j in (-1, 1) for i in (-1, 1) for k in (-1, 1)], np.float32)
    signs[4:, [0, 2]] *= taper
    return build(
        middle + signs * half,
        BOX_FACES,
        color,
        centers=middle,
        layer=layer,
        glow=glow,
        gloss=gloss,
    )


def tubes(
    starts: ArrayLike,
    ends: ArrayLike,
    start_radii: ArrayLike,
    end_radii: ArrayLike,
    colors: ArrayLike,
    *,
    sides: int = 6,
    flatness: float = 1.0,
    layer: float = 0.0,
    gloss: float = 0.0,
) -> Mesh:
    """Tapered closed tubes, one per row of ``starts`` and ``ends`` ``[n, 3]``.

    ``flatness`` scales the second axis of the ring, so that a torso can be wider than deep.
    """
    a = np.atleast_2d(np.asarray(starts, np.float32))
    b = np.atleast_2d(np.asarray(ends, np.float32))
    count = len(a)
    axis = unit(b - a)
    helper = np.where(np.abs(axis[:, :1]) > 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    first = unit(helper - axis * (helper * axis).sum(1, keepdims=True))
    second = cross(axis, first) * flatness
    angle = (np.arange(sides) + 0.5) * (2 * np.pi / sides)
    ring = first[:, None] * np.cos(angle)[:, None] + second[:, None] * np.sin(angle)[:, None]
    ra = np.broadcast_to(np.asarray(start_radii, np.float32), (count,))[:, None, None]
    rb = np.broadcast_to(np.asarray(end_radii, np.float32), (count,))[:, None, None]
    points = np.stack([a[:, None] + ring * ra, b[:, None] + ring * rb], 1).reshape(-1, 3)
    k = np.arange(sides)
    side = np.stack([k, (k + 1) % sides, (k + 1) % sides + sides, k + sides], 1)
    caps = [[0, i, i + 1, min(i + 2, sides - 1)] for i in range(1, sides - 1, 2)]
    local = np.concatenate([side, caps, np.asarray(caps) + sides])
    faces = (local[None] + (np.arange(count) * 2 * sides)[:, None, None]).reshape(-1, 4)
    per = len(local)
    tint = np.broadcast_to(np.asarray(colors, np.float32), (count, 3))
    middle = np.repeat((a + b) / 2, per, 0)
    return build(points, faces, np.repeat(tint, per, 0), centers=middle, layer=layer, gloss=gloss)


def ellipsoid(
    center: ArrayLike,
    radii: ArrayLike,
    color: ArrayLike,
    *,
    rings: int = 6,
    sides: int = 8,
    layer: float = 0.0,
    gloss: float = 0.0,
) -> Mesh:
    """An ellipsoid; its poles lie on the vertical."""
    middle = np.asarray(center, np.float32)
    points, faces = sphere_grid(rings, sides)
    return build(
        middle + points * np.asarray(radii, np.float32),
        faces,
        color,
        centers=middle,
        layer=layer,
        gloss=gloss,
    )


def sphere_grid(rings: int, sides: int) -> tuple[Floats, NDArray[np.int32]]:
    """Vertices ``float32 [(rings + 1) * sides, 3]`` and quads of a unit sphere."""
    polar = np.linspace(0, np.pi, rings + 1)[:, None]
    around = (np.arange(sides) * (2 * np.pi / sides))[None]
    points = np.stack(
        np.broadcast_arrays(
            np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)
        ),
        -1,
    ).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings), np.arange(sides), indexing='ij')
    k = (j + 1) % sides
    faces = np.stack([i * sides + j, i * sides + k, (i + 1) * sides + k, (i + 1) * sides + j], -1)
    return points.astype(np.float32), faces.reshape(-1, 4).astype(np.int32)


def disc(
    center: ArrayLike,
    radius: float,
    color: ArrayLike,
    *,
    facing: ArrayLike = (1.0, 0.0, 0.0),
    layer: float = 0.0,
    glow: float = 0.0,
) -> Mesh:
    """A flat 12-gon seen from the side that ``facing`` points to."""
    normal = np.asarray(facing, np.float32)
    helper = [[0.0, 1.0, 0.0]] if abs(normal[1]) < 0.9 else [[0.0, 0.0, 1.0]]
    across = unit(cross(np.asarray(helper, np.float32), normal[None]))
    up = cross(normal[None], across)
    angle = np.arange(12) * (np.pi / 6)
    middle = np.asarray(center, np.float32)
    points = middle + radius * (np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up)
    faces = [[0, i, i + 1, i + 2] for i in range(1, 10, 2)]
    return build(points, faces, color, centers=middle - normal, layer=layer, glow=glow)


def panel(
    corners: ArrayLike,
    color: ArrayLike,
    facing: ArrayLike,
    *,
    layer: float = 1.0,
    glow: float = 0.0,
    gloss: float = 0.0,
) -> Mesh:
    """One quad ``[4, 3]`` that faces the direction ``facing``."""
    points = np.asarray(corners, np.float32)
    middle = points.mean(0) - np.asarray(facing, np.float32)
    return build(
        points, [[0, 1, 2, 3]], color, centers=middle, layer=layer, glow=glow, gloss=gloss
    )


def upright(
    center: ArrayLike,
    width: float,
    height: float,
    color: ArrayLike,
    facing: float,
    *,
    layer: float = 1.0,
    glow: float = 0.0,
    gloss: float = 0.0,
) -> Mesh:
    """An upright rectangle across the z axis, facing ahead (+1) or back (-1)."""
    x, y, z = np.asarray(center, np.float32)
    w, h = width / 2, height / 2
    corners = [[x - w, y - h, z], [x + w, y - h, z], [x + w, y + h, z], [x - w, y + h, z]]
    return panel(corners, color, (0, 0, facing), layer=layer, glow=glow, gloss=gloss)

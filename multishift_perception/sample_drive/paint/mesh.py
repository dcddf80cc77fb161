# SPDX-License-Identifier: Apache-2.0
"""Small polygon meshes: their arrays, how they are built, joined and moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from multishift_perception.sample_drive.paint.geometry import Floats

NEXT, LAST = [1, 2, 0], [2, 0, 1]


@dataclass(frozen=True)
class Mesh:
    """Quads in an object's own axes: x right, y up, z ahead, metres, ground at y = 0.

    Attributes:
        vertices: ``float32 [n, 3]``.
        faces: ``int32 [m, 4]``, wound in any sense.
        normals: ``float32 [m, 3]``, unit, outward.
        colors: ``float32 [m, 3]``, sRGB 0..255.
        layers: ``float32 [m]``; faces are painted as if 100 m nearer per layer.
        glows: ``float32 [m]``, emitted light, 0 for passive faces.
        gloss: ``float32 [m]``, how much of the sky a face mirrors, 0..1.
    """

    vertices: Floats
    faces: NDArray[np.int32]
    normals: Floats
    colors: Floats
    layers: Floats
    glows: Floats
    gloss: Floats

    @cached_property
    def middles(self) -> Floats:
        """Centres of the faces, ``float32 [m, 3]``."""
        return np.asarray(self.vertices[self.faces].sum(1) * np.float32(0.25))

    @cached_property
    def footprint(self) -> Floats:
        """Outline (x, z) of what is within 0.7 m of the lowest point, ``float32 [k, 2]``."""
        low = self.vertices[self.vertices[:, 1] < self.vertices[:, 1].min() + 0.7]
        return np.asarray(cv2.convexHull(low[:, [0, 2]])[:, 0], np.float32)

    @cached_property
    def strongest_glow(self) -> float:
        """The brightest face's emission."""
        return float(self.glows.max(initial=0))


def cross(a: Floats, b: Floats) -> Floats:
    """Cross products of rows ``[n, 3]``; for small arrays much faster than numpy's own."""
    return a[:, NEXT] * b[:, LAST] - a[:, LAST] * b[:, NEXT]


def unit(rows: Floats) -> Floats:
    """Rows ``[n, 3]`` scaled to length one."""
    return np.asarray(rows / np.sqrt((rows * rows).sum(1, keepdims=True) + 1e-12))


def build(
    vertices: ArrayLike,
    faces: ArrayLike,
    colors: ArrayLike,
    *,
    centers: ArrayLike = (0.0, 0.5, 0.0),
    layer: float = 0.0,
    glow: float = 0.0,
    gloss: float | Floats = 0.0,
) -> Mesh:
    """Make a mesh whose normals point away from ``centers`` (one, or one per face)."""
    points = np.asarray(vertices, np.float32)
    quads = np.asarray(faces, np.int32)
    corners = points[quads]
    normals = unit(cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]))
    away = corners.sum(1) * np.float32(0.25) - np.asarray(centers, np.float32)
    normals *= np.where((normals * away).sum(1, keepdims=True) < 0, -1.0, 1.0)
    count = len(quads)
    return Mesh(
        points,
        quads,
        normals.astype(np.float32),
        np.array(np.broadcast_to(np.asarray(colors, np.float32), (count, 3))),
        np.full(count, layer, np.float32),
        np.full(count, glow, np.float32),
        np.array(np.broadcast_to(np.asarray(gloss, np.float32), (count,))),
    )


def join(parts: Sequence[Mesh]) -> Mesh:
    """Concatenate meshes into one."""
    starts = np.cumsum([0] + [len(p.vertices) for p in parts[:-1]])
    return Mesh(
        np.concatenate([p.vertices for p in parts]),
        np.concatenate([p.faces + s for p, s in zip(parts, starts, strict=True)]).astype(np.int32),
        np.concatenate([p.normals for p in parts]),
        np.concatenate([p.colors for p in parts]),
        np.concatenate([p.layers for p in parts]),
        np.concatenate([p.glows for p in parts]),
        np.concatenate([p.gloss for p in parts]),
    )


def placed(mesh: Mesh, offset: ArrayLike, *, heading: float = 0.0, pitch: float = 0.0) -> Mesh:
    """Return the mesh pitched about x, turned about the vertical, then moved."""
    turn = turn_matrix(heading) @ pitch_matrix(pitch)
    vertices = mesh.vertices @ turn.T + np.asarray(offset, np.float32)
    normals = mesh.normals @ turn.T
    return replace(mesh, vertices=vertices.astype(np.float32), normals=normals.astype(np.float32))


def turn_matrix(heading: float) -> Floats:
    """Rotation about the vertical; positive turns z towards minus x, as a camera's yaw does."""
    c, s = np.cos(heading), np.sin(heading)
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32)


def pitch_matrix(pitch: float) -> Floats:
    """Rotation about x; positive lifts the z axis."""
    c, s = np.cos(pitch), np.sin(pitch)
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]], np.float32)

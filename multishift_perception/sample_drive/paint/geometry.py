# SPDX-License-Identifier: Apache-2.0
"""Pinhole camera on a level vehicle: projection, near-plane clipping and plane equations.

World axes: x to the right of the street, y up, z along the street, metres. Camera axes: right,
down, forward. The optical axis is always level, so that verticals stay vertical in the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

NEAR = 0.25


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera.

    Attributes:
        width, height: image size, pixels.
        focal: focal length, pixels, the same in both directions.
        cx, cy: principal point, pixels; ``cy`` is also the row of the horizon.
        x, y, z: position in the world, metres.
        yaw: heading, radians, positive to the left of the z axis.
        mirrored: whether to see the world reflected in the ground plane.
    """

    width: int
    height: int
    focal: float
    cx: float
    cy: float
    x: float
    y: float
    z: float
    yaw: float
    mirrored: bool = False

    def scaled(self, factor: float) -> Camera:
        """Return the same camera with ``factor`` times as many pixels per side."""
        shift = (factor - 1) / 2
        return replace(
            self,
            width=round(self.width * factor),
            height=round(self.height * factor),
            focal=self.focal * factor,
            cx=self.cx * factor + shift,
            cy=self.cy * factor + shift,
        )

    @cached_property
    def forward(self) -> tuple[float, float]:
        """The viewing direction on the ground (x, z)."""
        return -float(np.sin(self.yaw)), float(np.cos(self.yaw))

    @cached_property
    def right(self) -> tuple[float, float]:
        """The direction to the right on the ground (x, z)."""
        return float(np.cos(self.yaw)), float(np.sin(self.yaw))

    @cached_property
    def rotation(self) -> Floats:
        """Matrix ``float32 [3, 3]`` that rows of world directions are multiplied by."""
        (fx, fz), (rx, rz) = self.forward, self.right
        down = 1.0 if self.mirrored else -1.0
        return np.array([[rx, 0, fx], [0, down, 0], [rz, 0, fz]], np.float32)

    @cached_property
    def _center(self) -> Floats:
        return np.array([self.cx, self.cy], np.float32)

    @cached_property
    def _origin(self) -> Floats:
        height = -self.y if self.mirrored else self.y
        return np.array([self.x, height, self.z], np.float32)

    def to_camera(self, points: Floats) -> Floats:
        """Turn world points ``float32 [n, 3]`` into camera axes (right, down, forward)."""
        return np.asarray((points - self._origin) @ self.rotation)

    def directions(self, vectors: Floats) -> Floats:
        """Turn world directions ``float32 [n, 3]`` into camera axes."""
        return np.asarray(vectors @ self.rotation)

    def project(self, points: Floats) -> Floats:
        """Project camera-axis points to pixels; points behind ``NEAR`` land at its depth."""
        depth = np.maximum(points[..., 2:], NEAR)
        return points[..., :2] * (self.focal / depth) + self._center

    def sees(self, x: float, z: float, radius: float, far: float) -> bool:
        """Whether a vertical cylinder at (x, z) can reach into the picture."""
        dx, dz = x - self.x, z - self.z
        (fx, fz), (rx, rz) = self.forward, self.right
        ahead, aside = dx * fx + dz * fz, dx * rx + dz * rz
        slope = (self.width / 2 + abs(self.cx - self.width / 2)) / self.focal
        reach = radius * float(np.hypot(1, slope))
        return -radius < ahead < far and abs(aside) < max(ahead, 0) * slope + reach

    def depth_of(self, x: float, z: float) -> float:
        """The distance of a ground point along the optical axis, metres."""
        return (x - self.x) * self.forward[0] + (z - self.z) * self.forward[1]

    def homography(self, origin: Floats, across: Floats, up: Floats) -> NDArray[np.float64]:
        """Return the 3x3 map from plane coordinates (a, b, 1) to homogeneous pixels.

        The plane's points are ``origin + a * across + b * up``.
        """
        columns = np.stack(
            [self.directions(across), self.directions(up), self.to_camera(origin)], 1
        ).astype(np.float64)
        intrinsic = np.array([[self.focal, 0, self.cx], [0, self.focal, self.cy], [0, 0, 1]])
        return np.asarray(intrinsic @ columns)

    def inverse_depth(self, point: Floats, normal: Floats) -> tuple[float, float, float]:
        """Return (p, q, r) with ``1 / depth = p + q * column + r * row`` on a plane."""
        n = self.directions(normal)
        distance = float(n @ self.to_camera(point))
        if abs(distance) < 1e-3:  # seen edge-on: it covers no pixels worth a depth
            return 0.1, 0.0, 0.0
        q, r = n[0] / self.focal / distance, n[1] / self.focal / distance
        return float(n[2] / distance - q * self.cx - r * self.cy), float(q), float(r)


def clip_near(polygon: Floats) -> Floats:
    """Cut a camera-axis polygon ``float32 [n, 3]`` at the near plane; may return no points."""
    inside = polygon[:, 2] >= NEAR
    if inside.all():
        return polygon
    kept: list[Floats] = []
    for index in range(len(polygon)):
        here, after = polygon[index], polygon[(index + 1) % len(polygon)]
        if here[2] >= NEAR:
            kept.append(here)
        if (here[2] >= NEAR) != (after[2] >= NEAR):
            share = (NEAR - here[2]) / (after[2] - here[2])
            kept.append(here + share * (after - here))
    return np.array(kept, np.float32).reshape(-1, 3)

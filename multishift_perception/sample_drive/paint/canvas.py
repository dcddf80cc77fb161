# SPDX-License-Identifier: Apache-2.0
"""A painter's canvas: RGB plus a surface number per pixel, and what each surface is.

One fill writes colour and surface together, so labels and depth are exact wherever colour is.
The canvas has more pixels than the final image; colours are averaged down, surfaces sampled.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from multishift_perception.classes import VOID
from multishift_perception.sample_drive.paint.geometry import NEAR, Camera, Floats, clip_near
from multishift_perception.sample_drive.paint.light import Light
from multishift_perception.sample_drive.paint.mesh import Mesh, turn_matrix
from multishift_perception.sample_drive.paint.shadows import GroundShadows

Image = NDArray[np.uint8]

SUBPIXEL = 3  # fractional bits of polygon corners
SURFACES = 256
# The first surfaces of a street's canvas, in this order.
(
    SURFACE_SKY, SURFACE_ROAD, SURFACE_SIDEWALK, SURFACE_TERRAIN, SURFACE_TREES, SURFACE_ROOFS,
) = range(6)  # fmt: skip


class Canvas:
    """What a camera sees, painted from far to near.

    Attributes:
        pixels: ``uint8 [height, width, 4]``: sRGB albedo times shading, and surface number.
        labels: ``uint8 [256]``, class of each surface.
        planes: ``float32 [256, 3]``, inverse depth of each surface over columns and rows.
        glows: ``float32 [256]``, emitted light of each surface.
    """

    def __init__(
        self, camera: Camera, light: Light, pixels: Image, shadows: GroundShadows | None
    ) -> None:
        """Start on a ground and sky already painted into ``pixels``."""
        self.shadows = shadows
        self.camera = camera
        self.light = light
        self.pixels = pixels
        self.labels = np.full(SURFACES, VOID, np.uint8)
        self.planes = np.zeros((SURFACES, 3), np.float32)
        self.glows = np.zeros(SURFACES, np.float32)
        self.count = 0

    def surface(self, label: int, plane: tuple[float, float, float], glow: float = 0.0) -> int:
        """Register a surface and return its number; when full, the most similar one is shared."""
        number = self.count
        if number >= SURFACES:
            alike = (self.labels == label) & ((self.glows > 0) == (glow > 0))
            distance = np.abs(self.planes - np.array(plane)).sum(1)
            return int(np.argmin(np.where(alike, distance, np.inf)))
        self.count += 1
        self.labels[number] = label
        self.planes[number] = plane
        self.glows[number] = glow
        return number

    def mesh(
        self,
        mesh: Mesh,
        label: int,
        position: ArrayLike,
        heading: float = 0.0,
        *,
        casts: bool = True,
    ) -> int:
        """Paint a mesh standing at ``position``; return its surface number, -1 if unseen."""
        turn = turn_matrix(heading)
        foot = np.asarray(position, np.float32)
        if casts and self.shadows is not None:
            self.shadows.cast(mesh, turn, foot)
        at = self.camera.to_camera(foot)
        rotation = self.camera.directions(turn.T).T
        seen = mesh.vertices @ rotation.T + at
        if seen[:, 2].max() < NEAR:
            return -1
        plane = (1 / max(float(at[2]), 0.5), 0.0, 0.0)
        number = self.surface(label, plane)
        middles = mesh.middles @ rotation.T + at
        shown = np.flatnonzero(((mesh.normals @ rotation.T) * middles).sum(1) < 0)
        key = mesh.layers[shown] * 100 - middles[shown, 2]
        order = shown[np.argsort(key, kind='stable')]
        colors = self._shaded(mesh, order, mesh.normals[order] @ turn.T, float(foot[1]))
        numbers = np.full(len(order), number)
        if mesh.strongest_glow > 0:
            lit = self.surface(label, plane, mesh.strongest_glow)
            numbers[mesh.glows[order] > 0] = lit
        self._fill(seen, mesh.faces[order], colors, numbers)
        return number

    def _shaded(
        self, mesh: Mesh, order: NDArray[np.intp], normals: Floats, foot: float
    ) -> list[list[int]]:
        """Colours of faces under the light, darker near the ground, mirroring some sky."""
        height = mesh.middles[order, 1] + np.float32(foot)
        grounded = 0.66 + 0.34 * np.clip(height * np.float32(1 / 0.6), 0, 1)
        shade = self.light.shade(normals) * grounded[:, None]
        shade[mesh.glows[order] > 0] = 1
        mirror = (mesh.gloss[order] * np.clip(0.25 + normals[:, 1], 0, 1))[:, None]
        colors = mesh.colors[order] * shade * (1 - 0.6 * mirror) + 205 * mirror * shade
        return np.clip(colors, 0, 255).astype(np.uint8).tolist()  # type: ignore[no-any-return]

    def _fill(
        self,
        seen: Floats,
        faces: NDArray[np.int32],
        colors: list[list[int]],
        numbers: NDArray[np.intp],
    ) -> None:
        """Fill faces in order; those that cross the near plane are cut."""
        pixels = np.clip(self.camera.project(seen), -9000, 9000)
        polygons = np.rint(pixels * (1 << SUBPIXEL)).astype(np.int32)[faces]
        if seen[:, 2].min() >= NEAR:
            for polygon, color, number in zip(polygons, colors, numbers.tolist(), strict=True):
                cv2.fillConvexPoly(self.pixels, polygon, (*color, number), cv2.LINE_8, SUBPIXEL)
            return
        cut = seen[:, 2][faces].min(1) < NEAR
        for index, (color, number) in enumerate(zip(colors, numbers.tolist(), strict=True)):
            if cut[index]:
                self._fill_one(seen[faces[index]], (*color, number))
            else:
                cv2.fillConvexPoly(
                    self.pixels, polygons[index], (*color, number), cv2.LINE_8, SUBPIXEL
                )

    def _fill_one(self, polygon: Floats, value: tuple[int, ...]) -> None:
        corners = self.outline(polygon)
        if len(corners) > 2:
            cv2.fillConvexPoly(self.pixels, corners, value, cv2.LINE_8, SUBPIXEL)

    def outline(self, polygon: Floats) -> NDArray[np.int32]:
        """Clip a camera-axis polygon and return its corners in fixed-point pixels."""
        clipped = clip_near(polygon)
        pixels = np.clip(self.camera.project(clipped), -9000, 9000)
        return np.rint(pixels * (1 << SUBPIXEL)).astype(np.int32)

# SPDX-License-Identifier: Apache-2.0
"""What objects do to the light on the ground: sun shadows, contact shadows, headlight pools."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.sample_drive.paint.geometry import Camera, Floats, clip_near
from multishift_perception.sample_drive.paint.light import Light
from multishift_perception.sample_drive.paint.mesh import Mesh

SUBPIXEL = 4
SUN_MATTERS = 0.1
CIRCLE = np.linspace(0, 2 * np.pi, 20, endpoint=False, dtype=np.float32)


class GroundShadows:
    """Three coverage maps ``uint8 [height, width]`` over the picture, valid on the ground.

    Attributes:
        sun: where an object takes the sun away.
        contact: where an object stands so close that it takes the sky away.
        beams: where other vehicles' headlights fall.
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        """Start with open ground."""
        self.camera = camera
        shape = (camera.height, camera.width)
        self.sun = np.zeros(shape, np.uint8)
        self.contact = np.zeros(shape, np.uint8)
        self.beams = np.zeros(shape, np.uint8)
        x, y, z = light.sun_direction.tolist()
        self.slant = (x / max(y, 0.05), z / max(y, 0.05))
        self.sunny = light.weather.sun[0] > SUN_MATTERS
        self.dim = light.weather.headlights > 0.05

    def cast(self, mesh: Mesh, turn: Floats, foot: Floats) -> None:
        """Add the shadows of a mesh that is turned by ``turn`` (3x3) and stands at ``foot``."""
        base, place = float(foot[1]), foot[[0, 2]]
        flat = turn[np.ix_([0, 2], [0, 2])].T
        self._fill(self.contact, mesh.footprint @ flat + place, base)
        if self.sunny:
            slide = mesh.vertices[:, 1:2] * np.array(self.slant, np.float32)
            ground = (mesh.vertices[:, [0, 2]] @ flat - slide).astype(np.float32)
            self._fill(self.sun, cv2.convexHull(ground)[:, 0] + place, base)

    def cast_tree(self, foot: Floats, height: float, radius: float, seed: int) -> None:
        """Add the shadow of a tree: its trunk and a crown with an uneven outline."""
        place, base = foot[[0, 2]], float(foot[1])
        ring = np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], 1)
        self._fill(self.contact, place + ring[::4] * np.float32(0.3), base)
        if not self.sunny:
            return
        wobble = 1 + 0.13 * np.sin(5 * CIRCLE + seed % 7) + 0.08 * np.sin(9 * CIRCLE + seed % 11)
        slant = np.array(self.slant, np.float32)
        along = slant / max(float(np.hypot(*self.slant)), 1e-3)
        middle = place - slant * np.float32(0.62 * height)
        aside = np.array([along[1], -along[0]]) * 0.14
        trunk = np.stack([place - aside, place + aside, middle + aside, middle - aside])
        self._fill(self.sun, trunk, base)
        stretch = float(np.hypot(1, np.hypot(*self.slant))) - 1
        crown = ring * (radius * wobble)[:, None]
        crown = crown + (crown @ along)[:, None] * along * stretch
        self._fill(self.sun, middle + crown, base)

    def beam(self, x: float, z: float, heading: float) -> None:
        """Add the light that a vehicle with its nose at (x, z) throws on the road."""
        if not self.dim:
            return
        ahead = np.array([-np.sin(heading), np.cos(heading)], np.float32)
        aside = np.array([ahead[1], -ahead[0]], np.float32)
        start = np.array([x, z], np.float32)
        reach = np.array([(0.8, 0.9), (11.0, 2.6), (11.0, -2.6), (0.8, -0.9)], np.float32)
        self._fill(self.beams, start + reach[:, :1] * ahead + reach[:, 1:] * aside, 0.0)

    def finished(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Return (sun, contact, beams) with soft edges."""
        return (
            _softened(self.sun, 1.0),
            _softened(self.contact, 2.2),
            _softened(self.beams, 5.0),
        )

    def _fill(self, target: NDArray[np.uint8], ground: Floats, y: float) -> None:
        """Fill an outline (x, z) that lies on the ground at height ``y``."""
        points = np.stack([ground[:, 0], np.full(len(ground), y), ground[:, 1]], 1)
        seen = clip_near(self.camera.to_camera(points.astype(np.float32)))
        if len(seen) < 3:
            return
        pixels = np.clip(self.camera.project(seen), -6000, 6000)
        corners = np.rint(pixels * (1 << SUBPIXEL)).astype(np.int32)
        cv2.fillPoly(target, [corners], 255, cv2.LINE_AA, SUBPIXEL)


def _softened(coverage: NDArray[np.uint8], blur: float) -> NDArray[np.uint8]:
    """Blur a map by pixels; most often there is nothing in it."""
    if not coverage.any():
        return coverage
    return np.asarray(cv2.GaussianBlur(coverage, (0, 0), blur), np.uint8)

# SPDX-License-Identifier: Apache-2.0
"""One picture of a scene: paints canvas and mirror, lights them, exposes them, reads labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import VOID, TrainId
from multishift_perception.sample_drive.light import lighting
from multishift_perception.sample_drive.light.lens import Lens, expose
from multishift_perception.sample_drive.light.sky import BACKDROP_DISTANCE, backdrop, sky_light
from multishift_perception.sample_drive.paint.canvas import (
    SURFACE_ROAD,
    SURFACE_ROOFS,
    SURFACE_SKY,
    SURFACE_TERRAIN,
    SURFACE_TREES,
    Canvas,
)
from multishift_perception.sample_drive.paint.geometry import Camera, Floats
from multishift_perception.sample_drive.paint.light import Light
from multishift_perception.sample_drive.paint.shadows import GroundShadows
from multishift_perception.sample_drive.street.ground import paint_ground
from multishift_perception.sample_drive.street.lots import draw_crossing, draw_lot
from multishift_perception.sample_drive.traffic.actors import draw_items
from multishift_perception.sample_drive.traffic.scene import Scene

DETAIL = 2  # canvas pixels per picture pixel and side
FOGGED = 0.035  # share of light left at which an object counts as unseen
LOT_DISTANCE = 100.0


@dataclass(frozen=True)
class View:
    """Who looks, when, at what materials.

    Attributes:
        camera: the camera.
        t: time, seconds.
        lens: the camera's lens.
        beam_heading: direction of the own headlights.
        tints: ``float32 [256, 3]``, factors of the sRGB colours of each surface, in the order in
            which they are painted; none leaves all as they are.
    """

    camera: Camera
    t: float
    lens: Lens
    beam_heading: float
    tints: Floats | None = None


def render(
    scene: Scene, view: View, light: Light, split: str, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the picture RGB ``uint8 [height, width, 3]`` and labels ``uint8 [height, width]``."""
    camera = view.camera
    far = min(LOT_DISTANCE, 4.2 / light.weather.haze)
    variant = scene.street.seed % 8
    sky = sky_light(camera, light, variant, view.t * 2.0)
    shadows = GroundShadows(camera, light)
    base, puddles = _base(scene, camera, light, variant)
    canvas = _canvas(camera.scaled(DETAIL), light, base, shadows)
    _paint(canvas, scene, split, view.t, far)
    if view.tints is not None:
        factors = np.where(canvas.glows[:, None] > 0, np.float32(1), view.tints)
        pixels = canvas.pixels[..., :3] * factors[canvas.pixels[..., 3]]
        canvas.pixels[..., :3] = np.clip(pixels, 0, 255).astype(np.uint8)
    mirror = None
    if light.weather.wet > 0.2:
        mirror = _mirror(scene, view, light, split, sky, min(far, 70.0))
    lit = lighting.illuminate(
        canvas,
        camera,
        scene.street,
        light,
        shadows,
        sky,
        beam_heading=view.beam_heading,
        mirror=mirror,
        puddles=puddles,
    )
    labels = canvas.labels[lit.numbers]
    if light.weather.haze > 0.01:
        ground = lit.numbers <= SURFACE_TERRAIN
        labels[(lit.depth > -np.log(FOGGED) / light.weather.haze) & ~ground] = VOID
    return expose(lit.light, light.weather, view.lens, rng), labels


def _canvas(
    camera: Camera, light: Light, base: NDArray[np.uint8], shadows: GroundShadows | None
) -> Canvas:
    """A canvas over ``base`` whose first surfaces are sky, ground and backdrop."""
    canvas = Canvas(camera, light, base, shadows)
    ground = (-camera.cy / (camera.focal * camera.y), 0.0, 1 / (camera.focal * camera.y))
    far = (1 / BACKDROP_DISTANCE, 0.0, 0.0)
    canvas.surface(TrainId.SKY, (1 / 30.0, 0.0, 0.0))
    for label in (TrainId.ROAD, TrainId.SIDEWALK, TrainId.TERRAIN):
        canvas.surface(label, ground)
    canvas.surface(TrainId.VEGETATION, far)
    canvas.surface(TrainId.BUILDING, far)
    return canvas


def _base(
    scene: Scene, camera: Camera, light: Light, variant: int
) -> tuple[NDArray[np.uint8], Floats]:
    """Ground, sky and backdrop at canvas size, and the noise that places puddles."""
    pixels = np.zeros((camera.height, camera.width, 4), np.uint8)
    ground = paint_ground(scene.street, camera)
    up = light.shade(np.array([[0, 1, 0]], np.float32))[0].astype(np.float32)
    pixels[ground.top :, :, :3] = (ground.color * up).astype(np.uint8)
    pixels[ground.top :, :, 3] = SURFACE_ROAD + ground.kind
    tree, roof, tone, top = backdrop(camera, variant)
    rows = slice(top, top + len(tone))
    for mask, number in ((tree, SURFACE_TREES), (roof, SURFACE_ROOFS)):
        pixels[rows, :, :3][mask] = (tone[mask] * 0.8).astype(np.uint8)
        pixels[rows, :, 3][mask] = number
    size = (camera.width * DETAIL, camera.height * DETAIL)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST)), ground.smooth


def _paint(canvas: Canvas, scene: Scene, split: str, t: float, far: float) -> None:
    """Paint lots from far to near, then everything that stands in the street."""
    street, camera = scene.street, canvas.camera

    def distance(span: tuple[float, float]) -> float:
        return max(span[0] - camera.z, camera.z - span[1], 0.0)

    for junction in street.junctions:
        if abs(junction - camera.z) < far:
            draw_crossing(canvas, street, junction)
    for lot in sorted(street.lots, key=lambda each: -distance((each.start, each.end))):
        middle = (lot.start + lot.end) / 2
        center = street.point(middle, lot.side * (street.building_line(lot.side) + 4))
        radius = (lot.end - lot.start) / 2 + 7
        if camera.sees(float(center[0]), middle, radius, far):
            draw_lot(canvas, street, lot)
    draw_items(canvas, scene, split, t, far=far)


def _mirror(scene: Scene, view: View, light: Light, split: str, sky: Floats, far: float) -> Floats:
    """Linear RGB of what wet ground mirrors, blurred as rough water blurs it."""
    camera = replace(view.camera.scaled(0.5), mirrored=True)
    base = np.zeros((camera.height, camera.width, 4), np.uint8)
    canvas = _canvas(camera, light, base, None)
    _paint(canvas, scene, split, view.t, far)
    linear = cv2.LUT(np.ascontiguousarray(canvas.pixels[..., :3]), lighting.LINEAR)
    numbers = canvas.pixels[..., 3]
    glow = canvas.glows[numbers] * np.float32(max(light.weather.headlights, light.weather.lamps))
    linear = linear * (light.full + 1.6 * glow[..., None])
    depth = 1 / np.maximum(canvas.planes[:, 0], 1e-3)
    clear = np.exp(-light.weather.haze * depth)[numbers][..., None]
    linear = linear * clear + (1 - clear) * np.array(light.weather.air, np.float32)
    horizon = int(np.clip(view.camera.cy, 1, view.camera.height - 1))
    above = sky[:horizon][::-1].mean(1)
    rows = np.clip((np.arange(camera.height) - camera.cy) * 2, 0, len(above) - 1).astype(int)
    linear = np.where((numbers == SURFACE_SKY)[..., None], above[rows][:, None], linear)
    blurred = cv2.GaussianBlur(
        linear.astype(np.float32), (0, 0), sigmaX=0.9, sigmaY=camera.height / 36
    )
    size = (view.camera.width, view.camera.height)
    return np.asarray(cv2.resize(blurred, size, interpolation=cv2.INTER_LINEAR), np.float32)

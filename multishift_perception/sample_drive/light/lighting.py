# SPDX-License-Identifier: Apache-2.0
"""From a painted canvas to linear light: sun and shadow, lamps, headlights, wet ground, fog."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.sample_drive.paint.canvas import (
    SURFACE_ROAD,
    SURFACE_SIDEWALK,
    SURFACE_SKY,
    SURFACE_TERRAIN,
    Canvas,
)
from multishift_perception.sample_drive.paint.geometry import Camera, Floats
from multishift_perception.sample_drive.paint.light import Light
from multishift_perception.sample_drive.paint.shadows import SUN_MATTERS, GroundShadows
from multishift_perception.sample_drive.street.street import LAMP_HEIGHT, LAMP_SPACING, Street

LAMP_COLOR = (1.0, 0.74, 0.42)
BEAM_COLOR = (1.0, 0.96, 0.86)
LINEAR = ((np.arange(256) / 255.0) ** 2.2).astype(np.float32)
FAR = 1500.0


@dataclass(frozen=True)
class Lit:
    """A picture in light.

    Attributes:
        light: linear RGB ``float32 [height, width, 3]``, unbounded.
        numbers: surface of each pixel, ``uint8 [height, width]``.
        depth: metres, ``float32 [height, width]``.
    """

    light: Floats
    numbers: NDArray[np.uint8]
    depth: Floats


def illuminate(
    canvas: Canvas,
    camera: Camera,
    street: Street,
    light: Light,
    shadows: GroundShadows,
    sky: Floats,
    *,
    beam_heading: float,
    mirror: Floats | None,
    puddles: Floats,
) -> Lit:
    """Light a canvas.

    Args:
        canvas: the painted canvas, of twice the camera's resolution.
        camera: the picture's camera.
        street: for the houses that throw shadows and the lamps.
        light: the weather's light.
        shadows: shadows on the ground.
        sky: linear RGB of the sky's rows.
        beam_heading: direction of the vehicle's own headlights, radians.
        mirror: linear RGB of the world mirrored in the ground, or none when it is dry.
        puddles: noise over the picture's lower rows that tells where water gathers.
    """
    weather = light.weather
    size = (camera.width, camera.height)
    numbers = np.ascontiguousarray(canvas.pixels[1::2, 1::2, 3])
    albedo = cv2.LUT(
        cv2.cvtColor(
            cv2.resize(canvas.pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGBA2RGB
        ),
        LINEAR,
    )
    open_sky = (canvas.pixels[: 2 * len(sky), :, 3] == SURFACE_SKY).astype(np.uint8) * 255
    cover = cv2.resize(open_sky, (camera.width, len(sky)), interpolation=cv2.INTER_AREA)
    depth = _depth(canvas, numbers)
    ground = ((numbers >= SURFACE_ROAD) & (numbers <= SURFACE_TERRAIN)).astype(np.float32)
    sun_off, contact, beams = shadows.finished()
    clear = np.exp(depth * np.float32(-weather.haze))
    sky_left = clear * (1 - np.float32(0.62 / 255) * ground * contact)
    sun_left, lamp, beam = sky_left, np.zeros_like(depth), np.zeros_like(depth)
    place = _Place(camera, depth)
    if weather.sun[0] > SUN_MATTERS:
        shown = house_light(street, light, place)
        sun_left = sky_left * shown * (1 - ground * sun_off * np.float32(0.92 / 255))
    if weather.lamps > 0.1:
        lamp = lamp_light(street, place) * (np.float32(weather.lamps) * sky_left)
    if weather.headlights > 0.05:
        own = headlight(camera, place, beam_heading) + ground * beams * np.float32(0.35 / 255)
        beam = own * (np.float32(weather.headlights) * sky_left)
    colors = np.stack([weather.sun, LAMP_COLOR, BEAM_COLOR, weather.ambient], 1)
    amounts = cv2.merge([sun_left, lamp, beam, sky_left])
    incoming = cv2.transform(amounts, colors.astype(np.float32))
    lit = np.asarray(cv2.multiply(albedo, incoming), np.float32)
    if mirror is not None:
        _wet(lit, numbers, mirror, camera, puddles, weather.wet, clear)
    glowing = canvas.glows[numbers]
    spot = glowing > 0
    power = np.float32(max(weather.headlights, weather.lamps, 0.12))
    lit[spot] += albedo[spot] * (glowing[spot] * power * clear[spot])[:, None]
    share = cover.astype(np.float32) * np.float32(1 / 255)
    veil = 1 - clear
    # Colours fade to black towards the sky's pixels, so at their edge sky is simply added.
    veil[: len(sky)] *= 1 - share
    air = np.array(weather.air, np.float32)[:, None]
    lit += np.asarray(cv2.transform(veil, air), np.float32)
    lit[: len(sky)] += np.asarray(cv2.multiply(sky, cv2.merge([share] * 3)), np.float32)
    return Lit(lit, numbers, depth)


def _depth(canvas: Canvas, numbers: NDArray[np.uint8]) -> Floats:
    """Depth of every pixel from its surface's plane, metres."""
    height, width = numbers.shape
    planes = canvas.planes.copy()
    # Planes are in canvas pixels, of which there are two per picture pixel and side.
    planes[:, 0] += 0.5 * (planes[:, 1] + planes[:, 2])
    planes[:, 1:] *= 2
    inverse = planes[:, 0][numbers]
    inverse += planes[:, 1][numbers] * np.arange(width, dtype=np.float32)
    inverse += planes[:, 2][numbers] * np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(1 / np.clip(inverse, 1 / FAR, 4.0), np.float32)


class _Place:
    """World coordinates of every pixel."""

    def __init__(self, camera: Camera, depth: Floats) -> None:
        height, width = depth.shape
        x = ((np.arange(width, dtype=np.float32) - camera.cx) / camera.focal).astype(np.float32)
        y = ((np.arange(height, dtype=np.float32) - camera.cy) / camera.focal).astype(np.float32)
        (fx, fz), (rx, rz) = camera.forward, camera.right
        self.dx = depth * (np.float32(fx) + x * np.float32(rx))
        self.dz = depth * (np.float32(fz) + x * np.float32(rz))
        self.x = self.dx + np.float32(camera.x)
        self.z = self.dz + np.float32(camera.z)
        self.y = np.float32(camera.y) - depth * y[:, None]


def house_light(street: Street, light: Light, place: _Place) -> Floats:
    """How much of the sun reaches each pixel past the houses on the sun's side, 0..1."""
    x, y, z = light.sun_direction.tolist()
    side = 1 if x > 0 else -1
    u = place.x - street.bend(place.z)
    way = (np.float32(side * street.building_line(side)) - u) * np.float32(1 / (x or 1e-6))
    height = place.y + way * np.float32(y)
    roof = street.roofs[(side + 1) // 2][street.table_index(place.z + way * np.float32(z))]
    penumbra = np.float32(0.15) + np.float32(0.02) * np.abs(way)
    seen = np.clip((height - roof) / penumbra + 0.5, 0, 1)
    return np.where((way <= 0.4) | (roof <= 0), np.float32(1), seen)


def lamp_light(street: Street, place: _Place) -> Floats:
    """Light of the two rows of street lamps; their spacing is even, so the nearest is folded."""
    spacing = np.float32(LAMP_SPACING)
    along = (place.z - np.float32(street.lamp_offset)) / spacing
    along = (along - np.round(along)) * spacing
    drop = np.maximum(np.float32(LAMP_HEIGHT) - place.y, 0.15)
    u = place.x - street.bend(place.z)
    total = np.full_like(u, 0.02)
    for side in (-1, 1):
        aside = u - np.float32(side * (street.half_width - 0.9))
        square = along * along + aside * aside + drop * drop
        total += drop * np.float32(190.0) / (square * square + 60) + np.float32(1.2) / (square + 9)
    return np.minimum(total, 1.6)


def headlight(camera: Camera, place: _Place, heading: float) -> Floats:
    """Light of the vehicle's own low beams."""
    s, c = np.float32(np.sin(heading)), np.float32(np.cos(heading))
    ahead = np.maximum(place.dz * c - place.dx * s, 0.3)
    aside = (place.dx * c + place.dz * s) / (ahead + 1.5)
    cone = np.exp(-((aside - 0.04) ** 2) * np.float32(6.5))
    falloff = np.float32(9.0) / (ahead * ahead * np.float32(0.030) + ahead * 0.6 + 6)
    cut = np.clip((np.float32(1.15) - place.y) / (0.25 + 0.02 * ahead) + 0.5, 0.10, 1)
    return np.asarray(cone * falloff * cut * np.clip(ahead - 1.2, 0, 1) * 0.95, np.float32)


def _wet(
    lit: Floats,
    numbers: NDArray[np.uint8],
    mirror: Floats,
    camera: Camera,
    puddles: Floats,
    wet: float,
    clear: Floats,
) -> None:
    """Darken wet ground and lay the mirrored world over it, most where it is seen at a slant."""
    top = camera.height - len(puddles)
    rows = np.arange(top, camera.height, dtype=np.float32)
    slant = (rows - camera.cy) / camera.focal
    fresnel = (0.07 + 0.86 * (1 - np.clip(slant / 0.55, 0, 1)) ** 2.6)[:, None]
    region = numbers[top:]
    hard = np.where(region == SURFACE_ROAD, 1.0, np.where(region == SURFACE_SIDEWALK, 0.45, 0.0))
    pool = np.clip(0.55 + 0.35 * puddles, 0.18, 1)
    share = (fresnel * pool * hard * wet).astype(np.float32)
    part = lit[top:]
    kept = (1 - np.float32(0.42 * wet) * (hard > 0)) * (1 - share)
    gained = share * clear[top:]
    part *= np.asarray(cv2.merge([kept.astype(np.float32)] * 3), np.float32)
    part += np.asarray(cv2.multiply(mirror[top:], cv2.merge([gained] * 3)), np.float32)

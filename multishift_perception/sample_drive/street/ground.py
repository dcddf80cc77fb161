# SPDX-License-Identifier: Apache-2.0
"""The ground under every pixel: road, kerb, pavement, grass and their markings.

The road lies at height 0, everything else a kerb higher: a pixel's ray meets the higher plane
first and goes on to the road only where it came in over the road, which yields exact kerbs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.sample_drive.paint.geometry import Camera, Floats
from multishift_perception.sample_drive.paint.textures import (
    COARSE_METERS,
    FINE_METERS,
    TILE,
    coarse_ground,
    fine_ground,
)
from multishift_perception.sample_drive.street.street import (
    CROSS_HALF_WIDTH,
    KERB,
    LANE_WIDTH,
    PARKING_WIDTH,
    Street,
)

FAR = 400.0
CORNER = 2.2  # radius of the kerb at a crossing, metres


class GroundKind(IntEnum):
    """What the ground is, in the order of its surfaces on a canvas."""

    ROAD = 0
    SIDEWALK = 1
    TERRAIN = 2


@dataclass(frozen=True)
class Ground:
    """The picture's rows below the horizon.

    Attributes:
        top: first row.
        color: ``float32 [rows, width, 3]``, sRGB albedo 0..255.
        kind: ``uint8 [rows, width]``, one of ``GroundKind``.
        smooth: ``float32 [rows, width]``, noise of unit order that tells where puddles gather.
    """

    top: int
    color: Floats
    kind: NDArray[np.uint8]
    smooth: Floats


def paint_ground(street: Street, camera: Camera) -> Ground:
    """Return what the camera sees of the ground."""
    top = max(int(np.floor(camera.cy)) + 1, 0)
    rows = np.arange(top, camera.height, dtype=np.float32)
    depth = np.minimum(camera.y * camera.focal / np.maximum(rows - camera.cy, 1e-3), FAR)
    columns = (np.arange(camera.width, dtype=np.float32) - camera.cx) / camera.focal
    (fx, fz), (rx, rz) = camera.forward, camera.right
    dx = depth[:, None] * (np.float32(fx) + columns * np.float32(rx))
    dz = depth[:, None] * (np.float32(fz) + columns * np.float32(rz))
    rise = np.float32((camera.y - KERB) / camera.y)
    s_road = dz + np.float32(camera.z)
    u_road = dx + np.float32(camera.x) - street.bend(s_road)
    s_walk = dz * rise + np.float32(camera.z)
    u_walk = dx * rise + np.float32(camera.x) - street.bend(s_walk)
    on_road_above = road_distance(street, u_walk, s_walk)
    on_road = road_distance(street, u_road, s_road)
    road = (on_road_above < 0) & (on_road < 0)
    kerb_face = (on_road_above < 0) & ~road
    kerb_top = (on_road_above >= 0) & (on_road_above < 0.17)
    grass = _is_grass(street, u_walk, s_walk) & ~kerb_top & ~kerb_face & ~road
    u, s = np.where(road, u_road, u_walk), np.where(road, s_road, s_walk)
    kind = np.full(road.shape, GroundKind.SIDEWALK, np.uint8)
    kind[grass] = GroundKind.TERRAIN
    kind[road] = GroundKind.ROAD
    fine, coarse = _sample(street, u, s)
    near = np.clip(9.0 / depth, 0, 1)[:, None]
    middle = np.clip(60.0 / depth, 0, 1)[:, None]
    texture = _chosen(fine, road, grass) * near + _chosen(coarse, road, grass) * middle
    factor = np.clip(1 + texture, 0.2, 2)
    color = np.asarray(_base_colors(street)[kind] * cv2.merge([factor] * 3), np.float32)
    worn = 0.92 + 3.0 * coarse[..., 0] + 0.5 * fine[..., 0] * near
    _paint_markings(color, street, u_road, s_road, on_road, depth, camera, worn)
    gutter = np.clip(1 + on_road / 0.4, 0, 1) * road
    color *= np.asarray(cv2.merge([1 - np.float32(0.22) * gutter] * 3), np.float32)
    color[kerb_top] = color[kerb_top] * 0.2 + np.array([142, 140, 136], np.float32)
    color[kerb_face] = (96, 94, 92)
    return Ground(top, np.clip(color, 0, 255), kind, coarse[..., 1] / np.float32(0.07))


def _chosen(samples: Floats, road: NDArray[np.bool_], grass: NDArray[np.bool_]) -> Floats:
    """The channel of each pixel's own material: asphalt, paving or grass."""
    return np.where(road, samples[..., 0], np.where(grass, samples[..., 2], samples[..., 1]))


def road_distance(street: Street, u: Floats, s: Floats) -> Floats:
    """Distance to the road's edge, metres, negative on the road, with rounded corners."""
    along = np.abs(u) - np.float32(street.half_width)
    for junction in street.junctions:
        low, high = float(s.min()), float(s.max())
        if low - 8 < junction < high + 8:
            across = np.abs(s - np.float32(junction)) - np.float32(CROSS_HALF_WIDTH)
            a, b = np.maximum(CORNER - along, 0), np.maximum(CORNER - across, 0)
            rounded = CORNER - np.sqrt(a * a + b * b)
            along = np.where(
                (along < CORNER) & (across < CORNER), rounded, np.minimum(along, across)
            )
            along = along.astype(np.float32)
    return along


def _is_grass(street: Street, u: Floats, s: Floats) -> NDArray[np.bool_]:
    """Where the ground off the road is grass: verges and yards without paving."""
    right = u > 0
    distance = np.abs(u) - np.float32(street.half_width)
    verge = np.where(right, street.verges[1], street.verges[0])
    line = verge + np.float32(street.pavement)
    index = street.table_index(s)
    yard = np.where(right, street.grass[1][index], street.grass[0][index]) > 0.5
    in_verge = (distance < verge) & (distance > 0)
    for junction in street.junctions:
        in_verge &= np.abs(s - np.float32(junction)) > CROSS_HALF_WIDTH + 3.0
    unpaved = not street.paved
    return np.asarray(in_verge | (distance > line) & yard | unpaved)


def _sample(street: Street, u: Floats, s: Floats) -> tuple[Floats, Floats]:
    """Fine and coarse texture at street coordinates."""
    textures = []
    for tile, meters in (
        (fine_ground(street.tiles[0]), FINE_METERS),
        (coarse_ground(street.tiles[1]), COARSE_METERS),
    ):
        scale = np.float32(TILE / meters)
        period = np.float32(meters)
        x = (u - np.floor(u / period) * period) * scale
        y = (s - np.floor(s / period) * period) * scale
        textures.append(cv2.remap(tile, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))
    return np.asarray(textures[0], np.float32), np.asarray(textures[1], np.float32)


def _base_colors(street: Street) -> Floats:
    """Albedo of asphalt, paving and grass on this street, in the order of ``GroundKind``."""
    rng = np.random.default_rng(street.seed % 2**32)
    asphalt = rng.uniform(74, 112) * np.array([1.0, 1.0, 1.01]) + rng.uniform(-1.5, 1.5, 3)
    paving = rng.uniform(122, 168) * np.array([1.02, 0.99, 0.94]) + rng.uniform(-8, 8, 3)
    grass = np.array([92, 112, 54]) * rng.uniform(0.8, 1.12) + rng.uniform(-10, 10, 3)
    return np.stack([asphalt, paving, grass]).astype(np.float32)


def _paint_markings(
    color: Floats,
    street: Street,
    u: Floats,
    s: Floats,
    edge: Floats,
    depth: Floats,
    camera: Camera,
    worn: Floats,
) -> None:
    """Paint lines along the road, parking bays, zebras and stop lines onto the road's colours.

    Each is worked out only on the pixels near it. ``worn`` scales coverage where paint has gone.
    """
    across = (depth / camera.focal)[:, None] + 0.002
    ahead = np.minimum(depth * depth / (camera.focal * camera.y), 3.0)[:, None] + 0.002
    across, ahead = np.broadcast_to(across, u.shape), np.broadcast_to(ahead, u.shape)
    white = np.array(street.paint, np.float32)
    near = [np.abs(s - np.float32(j)) < CROSS_HALF_WIDTH + 7.5 for j in street.junctions]
    crossing = np.zeros(u.shape, np.bool_)
    for one in near:
        crossing |= one

    def lay(spot: NDArray[np.bool_], coverage: Floats) -> None:
        left = np.clip(worn[spot], 0.15, 1) * np.float32(street.markings.left)
        share = (coverage * left)[:, None]
        color[spot] += share * (
            white * np.clip(0.7 + 0.3 * worn[spot], 0.6, 1.2)[:, None] - color[spot]
        )

    free = (edge < 0) & ~crossing

    def line(offset: Floats, *, dashed: bool) -> None:
        spot = free & (np.abs(offset) < 0.065 + across)
        coverage = _band(offset[spot], 0.065, across[spot])
        if dashed:
            coverage *= _band(_wave(s[spot], street.dashes), street.dashes * 0.18, ahead[spot])
        lay(spot, coverage)

    markings = street.markings
    if markings.middle == 'double':
        line(np.abs(u) - np.float32(0.13), dashed=False)
    elif markings.middle != 'none':
        line(u, dashed=markings.middle == 'dashed')
    for side, present in zip((-1, 1), street.parking, strict=True):
        drivable = street.half_width - (PARKING_WIDTH if present else 0.0)
        if markings.lanes:
            for place in np.arange(LANE_WIDTH, drivable - 0.6 * LANE_WIDTH, LANE_WIDTH):
                line(u - np.float32(side * place), dashed=True)
        if markings.edges and not present:
            line(u - np.float32(side * (drivable - 0.3)), dashed=False)
    for side, present in zip((-1, 1), street.parking, strict=True):
        if present:
            bay = u - np.float32(side * (street.half_width - PARKING_WIDTH))
            spot = free & (np.abs(bay) < 0.05 + across)
            gaps = _band(_wave(s[spot], 2.0), 0.5, ahead[spot])
            lay(spot, _band(bay[spot], 0.05, across[spot]) * gaps)
    for junction, close in zip(street.junctions, near, strict=True):
        spot = close & (edge < -0.2)
        if not spot.any():
            continue
        at, wide, long = u[spot], across[spot], ahead[spot]
        offset = np.abs(s[spot] - np.float32(junction))
        zebra = _band(offset - (CROSS_HALF_WIDTH + 4.0), 1.4, long)
        stripes = _band(_wave(at, 1.0), 0.25, wide) * np.clip(-edge[spot] / 0.3 - 1, 0, 1)
        stop = _band(offset - (CROSS_HALF_WIDTH + 6.4), 0.17, long)
        lane = ((s[spot] < junction) == (at > 0.15)) & (np.abs(at) > 0.15)
        lay(spot, np.maximum(zebra * stripes, stop * lane))


def _band(distance: Floats, half: float, blur: Floats) -> Floats:
    """Coverage 0..1 of a band about ``distance`` 0 as pixels of a size ``blur`` see it."""
    return np.clip((np.float32(half) - np.abs(distance)) / blur + np.float32(0.5), 0, 1)


def _wave(value: Floats, period: float) -> Floats:
    """Distance from the nearest multiple of a period, signed."""
    return np.asarray(value - np.round(value / np.float32(period)) * np.float32(period))

# SPDX-License-Identifier: Apache-2.0
"""Wider ranges for independent frames: other vehicles, cameras, roads, materials and densities.

The usual frames are of the demo's kind of street, seen by its kind of camera. What learns from
them meets a real road as another world. Ranges here are wide rather than likely, so that a real
road lies somewhere inside.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.sample_drive.light.weather import BY_CONDITION, blend
from multishift_perception.sample_drive.paint.canvas import SURFACES
from multishift_perception.sample_drive.paint.geometry import Camera, Floats
from multishift_perception.sample_drive.paint.light import Weather
from multishift_perception.sample_drive.street.street import (
    LANE_WIDTH,
    MIDDLE_LINES,
    PARKING_WIDTH,
    Markings,
    Street,
)
from multishift_perception.sample_drive.traffic.scene import Item, Scene

VARIETIES = ('usual', 'wide')

_MOST_LANES = 3  # of one direction
_PLACES = ('lamp', 'light', 'sign', 'tree', 'bicycle', 'person', 'car')


def check_variety(variety: str) -> None:
    """Refuse a variety that is not one of ``VARIETIES``."""
    if variety not in VARIETIES:
        raise ValueError(f'unknown variety {variety!r}; one of {VARIETIES}')


def widen_street(street: Street, rng: np.random.Generator) -> Street:
    """Return a street of another width, with other edges, paint and materials underfoot."""
    lanes = int(rng.choice(np.arange(1, _MOST_LANES + 1), p=(0.6, 0.27, 0.13)))
    lane = float(rng.uniform(2.5, 3.9)) if lanes == 1 else LANE_WIDTH
    parking = street.parking if lane > 3.0 else (False, False)
    beside = PARKING_WIDTH if any(parking) else 0.0
    half_width = lanes * lane + float(rng.uniform(0, 0.5)) + beside
    paint = np.array([222, 178, 60] if rng.random() < 0.2 else [214, 214, 210])
    paint = (paint * rng.uniform(0.75, 1.1)).tolist()
    return replace(
        street,
        half_width=half_width,
        parking=parking,
        verges=(_verge(rng), _verge(rng)),
        pavement=float(rng.uniform(1.3, 5.5)),
        paved=bool(rng.random() < 0.8),
        paint=(paint[0], paint[1], paint[2]),
        dashes=float(rng.uniform(4, 16)),
        markings=Markings(
            middle=str(rng.choice(MIDDLE_LINES, p=(0.35, 0.15, 0.15, 0.35))),
            edges=bool(rng.random() < 0.4),
            lanes=lanes > 1 and bool(rng.random() < 0.85),
            left=float(rng.beta(1.6, 0.7)),
        ),
    )


def _verge(rng: np.random.Generator) -> float:
    """Draw a verge's width, metres; most streets have none."""
    return float(rng.choice([0.0, 0.0, rng.uniform(0.5, 7)]))


def widen_camera(camera: Camera, street: Street, rng: np.random.Generator) -> Camera:
    """Return a camera of another vehicle: mounting, angle of view and horizon."""
    half_angle = np.deg2rad(rng.uniform(20, 57))
    height = rng.choice([rng.uniform(0.9, 1.5), rng.uniform(1.2, 1.9), rng.uniform(1.8, 3.2)])
    reach = max(street.half_width - 1.2, 0.4)
    u = camera.x - street.bend_at(camera.z)
    lane = LANE_WIDTH * int(rng.integers(max(int(street.half_width / LANE_WIDTH), 1)))
    moved = float(np.clip(abs(u) + lane, 0.3, reach)) * np.copysign(1, u)
    return replace(
        camera,
        focal=camera.width / 2 / float(np.tan(half_angle)),
        cy=camera.height * float(rng.uniform(0.3, 0.62)),
        x=street.bend_at(camera.z) + float(moved),
        y=float(height),
    )


def widen_weather(weather: Weather, rng: np.random.Generator) -> Weather:
    """Return a weather that leans towards any other, under another sky."""
    other = BY_CONDITION[str(rng.choice(list(BY_CONDITION)))]
    mixed = blend(weather, other, float(rng.uniform(0, 0.4)))
    return replace(
        mixed,
        elevation=float(np.clip(mixed.elevation * rng.uniform(0.45, 1.5), 0.04, 1.3)),
        cloudiness=float(np.clip(mixed.cloudiness + rng.normal(0, 0.4), 0, 1)),
        saturation=float(mixed.saturation * rng.uniform(0.6, 1.2)),
        noise=float(mixed.noise * rng.uniform(0.3, 2.5)),
    )


def draw_tints(rng: np.random.Generator) -> Floats:
    """Return factors ``float32 [256, 3]`` of the colours of surfaces: other paint and stone."""
    bright = np.exp(rng.normal(0, 0.22, (SURFACES, 1)))
    return np.asarray(bright * np.exp(rng.normal(0, 0.09, (SURFACES, 3))), np.float32)


def thin_out(scene: Scene, novel: tuple[Item, ...], rng: np.random.Generator) -> Scene:
    """Take away another share of each kind of thing, never of the unknown ones."""
    shares = {kind: float(rng.choice([1.0, rng.uniform(0.1, 1.0)])) for kind in _PLACES}
    kept = tuple(
        item for item in scene.items if item in novel or rng.random() < shares.get(item.kind, 1.0)
    )
    return replace(scene, items=kept)


def bend(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Look through another lens, held at another roll; the picture's edges stay filled.

    Args:
        image: RGB ``uint8 [height, width, 3]``.
        labels: ``uint8 [height, width]``.
        rng: draws both.
    """
    height, width = labels.shape
    strength, roll = float(rng.uniform(-0.05, 0.22)), float(np.deg2rad(rng.normal(0, 1.5)))
    half = np.float32(np.hypot(width, height) / 2)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = (x - (width - 1) / 2) / half, (y - (height - 1) / 2) / half
    x, y = x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)
    factor = 1 + np.float32(strength) * (x * x + y * y)
    x, y = x * factor * half, y * factor * half
    reach = max(np.abs(x).max() / (width - 1), np.abs(y).max() / (height - 1)) * 2
    x = (x / reach + (width - 1) / 2).astype(np.float32)
    y = (y / reach + (height - 1) / 2).astype(np.float32)
    return (
        np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR), np.uint8),
        np.asarray(cv2.remap(labels, x, y, cv2.INTER_NEAREST), np.uint8),
    )

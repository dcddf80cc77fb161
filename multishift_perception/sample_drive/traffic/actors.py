# SPDX-License-Identifier: Apache-2.0
"""Draws a scene's items at a time: each kind with its mesh, label and lights."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from multishift_perception.classes import NOVEL, TrainId
from multishift_perception.sample_drive.novel.novel_objects import novel_object
from multishift_perception.sample_drive.paint.canvas import Canvas
from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.mesh import Mesh
from multishift_perception.sample_drive.paint.seeding import generator
from multishift_perception.sample_drive.paint.textured import paint_grain
from multishift_perception.sample_drive.street import furniture
from multishift_perception.sample_drive.street.lots import tree
from multishift_perception.sample_drive.traffic.cars import car
from multishift_perception.sample_drive.traffic.cycles import bicycle, motorcycle
from multishift_perception.sample_drive.traffic.heavy import bus, truck
from multishift_perception.sample_drive.traffic.people import Looks, looks, pedestrian, rider
from multishift_perception.sample_drive.traffic.scene import LANE, Item, Scene

VEHICLES = {
    'car': (car, TrainId.CAR),
    'truck': (truck, TrainId.TRUCK),
    'bus': (bus, TrainId.BUS),
}

# Beyond these distances an object would be a few pixels that nobody could tell.
FARTHEST = {
    'car': 95.0, 'truck': 110.0, 'bus': 110.0, 'tree': 85.0, 'lamp': 62.0, 'light': 52.0,
    'sign': 48.0, 'person': 52.0, 'cyclist': 50.0, 'motorcyclist': 50.0, 'bicycle': 26.0,
}  # fmt: skip
FARTHEST_NOVEL = 55.0
# How many different ones there are; few enough that all of them stay in the caches below.
VARIETY = {'car': 500, 'truck': 80, 'bus': 60, 'cycle': 120, 'person': 240}
STEPS = 16  # moments of a person's step


@lru_cache(maxsize=1300)
def _vehicle(kind: str, index: int, driving: bool) -> tuple[Mesh, float]:
    """A vehicle's mesh and length; a parked one's lamps are off."""
    if not driving:
        mesh, length = _vehicle(kind, index, True)
        return replace(mesh, glows=np.zeros_like(mesh.glows)), length
    return VEHICLES[kind][0](generator(kind, index))


@lru_cache(maxsize=240)
def _cycle(kind: str, index: int) -> Mesh:
    """A bicycle's or motorcycle's mesh."""
    return (bicycle if kind == 'bicycle' else motorcycle)(generator(kind, index))


@lru_cache(maxsize=4096)
def _pedestrian(index: int, walks: bool, step: int) -> Mesh:
    """A person's mesh at one of ``STEPS`` moments of a step."""
    stride = 0.48 if walks else (0.0, 0.30)[index % 2]
    return pedestrian(_looks(index), step * 2 * np.pi / STEPS, stride)


@lru_cache(maxsize=2048)
def _rider_mesh(index: int, pedals: bool, step: int) -> Mesh:
    """A rider's mesh at one of ``STEPS`` moments of a turn of the pedals."""
    seat, reach = (0.95, 0.36) if pedals else (0.86, 0.38)
    return rider(_looks(index), step * 2 * np.pi / STEPS, seat, reach)


@lru_cache(maxsize=240)
def _looks(index: int) -> Looks:
    return looks(generator('looks', index))


def place_of(scene: Scene, item: Item, t: float) -> tuple[float, float]:
    """Street coordinates (s, u) of an item at a time."""
    s = item.s + item.speed * t
    u = item.u + (scene.lane(s) - LANE if item.follows else 0.0)
    return s, u


def draw_items(canvas: Canvas, scene: Scene, split: str, t: float, *, far: float = 200.0) -> None:
    """Draw every item that can be seen, the farthest first; ``far`` limits the distance."""
    street, camera = scene.street, canvas.camera
    seen: list[tuple[float, Item, float, Floats]] = []
    for item in scene.items:
        s, u = place_of(scene, item, t)
        if abs(s - camera.z) > 130 or not street.start < s < street.end:
            continue
        foot = street.point(s, u, street.ground_height(u))
        limit = FARTHEST.get(item.kind, FARTHEST_NOVEL)
        if camera.sees(float(foot[0]), float(foot[2]), 6.0, min(limit, far)):
            seen.append((camera.depth_of(float(foot[0]), float(foot[2])), item, s, foot))
    for _, item, s, foot in sorted(seen, key=lambda entry: -entry[0]):
        _draw(canvas, item, foot, street.heading(s) + item.turn, split, t)


def _draw(canvas: Canvas, item: Item, foot: Floats, heading: float, split: str, t: float) -> None:
    kind = item.kind
    if kind == 'tree':
        tree(canvas, foot, item.seed)
    elif kind == 'lamp':
        furniture.lamp(canvas, foot, heading)
    elif kind == 'light':
        furniture.traffic_light(canvas, foot, heading, item.seed, t)
    elif kind == 'sign':
        furniture.sign(canvas, foot, heading, item.seed)
    elif kind in VEHICLES:
        mesh, length = _vehicle(kind, item.seed % VARIETY[kind], item.speed != 0)
        canvas.mesh(mesh, VEHICLES[kind][1], foot, heading)
        if item.speed != 0 and canvas.shadows is not None:
            nose = foot[[0, 2]] + np.array([-np.sin(heading), np.cos(heading)]) * length / 2
            canvas.shadows.beam(float(nose[0]), float(nose[1]), heading)
    elif kind == 'person':
        walked = item.seed % STEPS + t * abs(item.speed) * 0.73 * STEPS
        step = int(walked) % STEPS if item.speed else 0
        mesh = _pedestrian(item.seed % VARIETY['person'], item.speed != 0, step)
        canvas.mesh(mesh, TrainId.PERSON, foot, heading)
    elif kind in ('cyclist', 'motorcyclist'):
        pedals = kind == 'cyclist'
        machine = _cycle('bicycle' if pedals else 'motorcycle', item.seed % VARIETY['cycle'])
        canvas.mesh(machine, TrainId.BICYCLE if pedals else TrainId.MOTORCYCLE, foot, heading)
        step = int(item.seed % STEPS + t * 1.2 * STEPS) % STEPS if pedals else 4
        canvas.mesh(
            _rider_mesh(item.seed % VARIETY['cycle'], pedals, step), TrainId.RIDER, foot, heading
        )
    elif kind == 'bicycle':
        canvas.mesh(
            _cycle('bicycle', item.seed % VARIETY['cycle']), TrainId.BICYCLE, foot, heading
        )
    else:
        draw_novel(canvas, split, kind, item.seed, foot, heading)


def draw_novel(
    canvas: Canvas, split: str, kind: str, seed: int, foot: Floats, heading: float
) -> None:
    """Draw a novel object and its surface pattern."""
    thing = novel_object(split, kind, seed)
    number = canvas.mesh(thing.mesh, NOVEL, foot, heading)
    paint_grain(canvas, number, foot, thing.reach + 0.2, thing.tile, thing.pattern)

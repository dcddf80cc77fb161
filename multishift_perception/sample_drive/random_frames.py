# SPDX-License-Identifier: Apache-2.0
"""Independent random frames: every one another street, place, view and weather."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from multishift_perception.sample_drive.drive import FIELD_OF_VIEW, MOUNT_HEIGHT, Frame
from multishift_perception.sample_drive.light.lens import random_lens
from multishift_perception.sample_drive.light.weather import CONDITIONS, blend, weather_of
from multishift_perception.sample_drive.novel.novel_objects import NOVEL_OBJECTS
from multishift_perception.sample_drive.paint.geometry import Camera
from multishift_perception.sample_drive.paint.light import Light
from multishift_perception.sample_drive.paint.seeding import check_split, generator
from multishift_perception.sample_drive.render import View, render
from multishift_perception.sample_drive.street.street import Street, make_street
from multishift_perception.sample_drive.traffic.scene import LANE, Item, Scene, populate
from multishift_perception.sample_drive.variety import (
    bend,
    check_variety,
    draw_tints,
    thin_out,
    widen_camera,
    widen_street,
    widen_weather,
)


def random_frame(
    seed: int,
    *,
    split: str = 'train',
    size: tuple[int, int] = (360, 640),
    condition: str | None = None,
    variety: str = 'usual',
) -> Frame:
    """Return an independent frame: street, place, view, condition and objects from the seed.

    Args:
        seed: a non-negative number; different splits share no frame of the same seed.
        split: one of ``SPLITS``; decides which novel objects occur.
        size: (height, width), pixels.
        condition: one of ``CONDITIONS``, or none to draw one.
        variety: one of ``VARIETIES``: ``usual`` for the demo's kind of street and camera, ``wide``
            for those of any vehicle on any road.
    """
    check_split(split)
    check_variety(variety)
    wide = generator('wide', split, seed) if variety == 'wide' else None
    rng = generator('random frame', split, seed)
    drawn = CONDITIONS[rng.integers(len(CONDITIONS))]
    condition = drawn if condition is None else condition
    weather = weather_of(condition)
    street = make_street(seed, split, -32.0, 118.0)
    if wide is not None:
        street = widen_street(street, wide)
    near = CONDITIONS[rng.integers(len(CONDITIONS))]
    if rng.random() < 0.3:  # conditions shade into each other
        weather = blend(weather, weather_of(near), float(rng.uniform(0, 0.35)))
    s = float(rng.uniform(-6, 6))
    u = float(np.clip(rng.normal(LANE, 0.6), 0.3, street.half_width - 1.0))
    if rng.random() < 0.12:
        u = -u
    draw = rng.random()
    yaw = rng.normal(0, 0.07) if draw < 0.62 else rng.normal(np.pi / 4, 0.1)
    if draw > 0.94:
        yaw = rng.uniform(-1.2, 1.2)
    height, width = size
    view_angle = float(FIELD_OF_VIEW * rng.uniform(0.88, 1.07))
    heading = street.heading(s)
    place = street.point(s, u)
    eye = Camera(
        width=width,
        height=height,
        focal=width / 2 / float(np.tan(view_angle / 2)),
        cx=(width - 1) / 2,
        cy=height * float(np.clip(rng.normal(0.47, 0.03), 0.36, 0.56)),
        x=float(place[0]),
        y=float(np.clip(rng.normal(MOUNT_HEIGHT, 0.12), 1.2, 1.9)),
        z=s,
        yaw=heading + float(yaw),
    )
    if wide is not None:
        weather, eye = widen_weather(weather, wide), widen_camera(eye, street, wide)
        u = eye.x - street.bend_at(s)
    novel = _scattered(rng, split, street, eye)
    busy = float(rng.uniform(0.5, 1.5) if wide is None else wide.uniform(0.1, 3.0))
    scene = populate(street, split, novel=novel, hazards=(), busy=busy, still=True)
    scene = _cleared(scene, s, u)
    lens, tints = random_lens(rng, 1.0), None
    if wide is not None:
        scene = thin_out(scene, novel, wide)
        lens, tints = random_lens(wide, 2.0), draw_tints(wide)
    view = View(eye, 0.0, lens, heading, tints)
    image, labels = render(scene, view, Light(weather, street.sun_azimuth), split, rng)
    if wide is not None:
        image, labels = bend(image, labels, wide)
    return Frame(image, labels, condition)


def _cleared(scene: Scene, s: float, u: float) -> Scene:
    """Take away what stands where the camera's own vehicle is."""
    kept = tuple(i for i in scene.items if abs(i.s - s) > 6.5 or abs(i.u - u) > 2.0)
    return replace(scene, items=kept)


def _scattered(
    rng: np.random.Generator, split: str, street: Street, eye: Camera
) -> tuple[Item, ...]:
    """Up to three novel objects in view, on the road or beside it."""
    if rng.random() < 0.1:
        return ()
    items = []
    limit = street.half_width + 2.2
    for _ in range(int(rng.choice([1, 2, 3], p=(0.55, 0.3, 0.15)))):
        kind = str(rng.choice(NOVEL_OBJECTS[split]))
        depth = float(np.exp(rng.uniform(np.log(5.5), np.log(20.0))))
        aside = float(rng.uniform(-0.8, 0.8)) * depth * eye.width / 2 / eye.focal
        (fx, fz), (rx, rz) = eye.forward, eye.right
        x, s = eye.x + fx * depth + rx * aside, eye.z + fz * depth + rz * aside
        u = x - street.bend_at(s)
        if abs(u) > limit:  # a house is there: pull it back along the line of sight
            here = eye.x - street.bend_at(eye.z)
            share = (limit - abs(here)) / (abs(u) - abs(here))
            u, s = float(np.clip(u, -limit, limit)), eye.z + (s - eye.z) * max(share, 0.3)
        turn, seed = float(rng.uniform(-np.pi, np.pi)), int(rng.integers(2**31))
        items.append(Item(kind, s, u, turn, seed))
    return tuple(items)

# SPDX-License-Identifier: Apache-2.0
"""What stands and moves in a street: items with places, speeds and seeds of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multishift_perception.sample_drive.paint.seeding import generator
from multishift_perception.sample_drive.street.street import CROSS_HALF_WIDTH, LAMP_SPACING, Street

LANE = 1.75  # middle of a driving lane, metres from the middle line
SWERVE_LENGTH = 9.0


@dataclass(frozen=True)
class Item:
    """One object.

    Attributes:
        kind: what it is: a kind of the street, or of ``NOVEL_OBJECTS``.
        s, u: place at time 0, street coordinates, metres.
        turn: heading relative to the street, radians, positive to the left.
        seed: of its looks.
        speed: along the street, m/s, signed.
        follows: whether it keeps to the driving lane's course around hazards.
    """

    kind: str
    s: float
    u: float
    turn: float = 0.0
    seed: int = 0
    speed: float = 0.0
    follows: bool = False


@dataclass(frozen=True)
class Scene:
    """A street, its items, and where hazards force the right-hand lane to swerve."""

    street: Street
    items: tuple[Item, ...]
    hazards: tuple[float, ...]

    def lane(self, s: float) -> float:
        """Offset u of the right-hand lane's course at ``s``."""
        near = [np.exp(-(((s - h) / SWERVE_LENGTH) ** 2)) for h in self.hazards]
        return LANE - 1.05 * float(max(near, default=0.0))


class _Room:
    """Keeps items from standing inside each other."""

    CELL = 8.0  # metres along the street, more than any two radii together

    def __init__(self) -> None:
        self.taken: dict[int, list[tuple[float, float, float]]] = {}

    def free(self, s: float, u: float, radius: float) -> bool:
        """Whether a circle is free."""
        cell = int(s // self.CELL)
        return not any(
            (s - a) ** 2 + (u - b) ** 2 < (radius + r) ** 2
            for near in (cell - 1, cell, cell + 1)
            for a, b, r in self.taken.get(near, ())
        )

    def take(self, s: float, u: float, radius: float) -> bool:
        """Take a circle if it is free."""
        if not self.free(s, u, radius):
            return False
        self.taken.setdefault(int(s // self.CELL), []).append((s, u, radius))
        return True


def populate(
    street: Street,
    split: str,
    *,
    novel: tuple[Item, ...],
    hazards: tuple[float, ...],
    busy: float,
    still: bool,
) -> Scene:
    """Fill a street: furniture, trees, vehicles and people around the given novel objects.

    Args:
        street: the street.
        split: part of what seeds the scene.
        novel: unknown objects; nothing is put where they are.
        hazards: where along the street the right-hand lane swerves.
        busy: density of people and traffic, 1 for usual.
        still: whether only time 0 matters, so that traffic may be anywhere not yet taken.
    """
    rng = generator('scene', split, street.seed)
    room = _Room()
    for item in novel:
        room.take(item.s, item.u, 1.5)
    items = [*novel]
    items += _furniture(street, rng, room)
    items += _parked(street, rng, room)
    items += _trees(street, rng, room)
    items += _walkers(street, rng, room, busy)
    items += _traffic(street, rng, busy, room if still else None)
    return Scene(street, tuple(items), hazards)


def _furniture(street: Street, rng: np.random.Generator, room: _Room) -> list[Item]:
    """Lamps at a fixed spacing, lights or signs at junctions, signs between."""
    items = []
    first = int(np.ceil((street.start - street.lamp_offset) / LAMP_SPACING))
    for k in range(first, int((street.end - street.lamp_offset) / LAMP_SPACING) + 1):
        s = street.lamp_offset + k * LAMP_SPACING
        for side in (-1, 1):
            u = side * (street.half_width + 0.45)
            if room.take(s, u, 0.4):
                items.append(Item('lamp', s, u, np.pi if side > 0 else 0.0))
    for junction in street.junctions:
        kind = 'light' if rng.random() < 0.65 else 'sign'
        for side in (-1, 1):
            s = junction - side * (CROSS_HALF_WIDTH + 2.6)
            u = side * (street.half_width + 0.5)
            if room.take(s, u, 0.4):
                turn = 0.0 if side > 0 else np.pi
                items.append(Item(kind, s, u, turn, int(rng.integers(2**31))))
    for start in np.arange(street.start, street.end, 19.0):
        place = float(start + rng.uniform(0, 12))
        side = int(rng.choice((-1, 1)))
        u = side * (street.half_width + 0.4)
        seed = int(rng.integers(2**31))
        if not street.near_junction(place, 3.0) and room.take(place, u, 0.5):
            items.append(Item('sign', place, u, 0.0 if side > 0 else np.pi, seed))
    return items


def _parked(street: Street, rng: np.random.Generator, room: _Room) -> list[Item]:
    """Cars at the kerb, now and then a lorry; bicycles on the pavement."""
    items = []
    for side, present in zip((-1, 1), street.parking, strict=True):
        s = street.start
        density = rng.uniform(0.35, 0.9)
        while s < street.end:
            s += float(rng.uniform(5.6, 7.0))
            seed, draw = int(rng.integers(2**31)), rng.random()
            turn = (0.0 if side > 0 else np.pi) + float(rng.normal(0, 0.02))
            u = side * (street.half_width - 1.02)
            if present and draw < density and not street.near_junction(s, 7.5):
                kind = 'truck' if draw < 0.05 else 'car'
                s += 2.5 if kind == 'truck' else 0.0
                if room.take(s, u, 2.3):
                    items.append(Item(kind, s, u, turn, seed))
    for start in np.arange(street.start, street.end, 24.0):
        place, side = float(start + rng.uniform(0, 24)), int(rng.choice((-1, 1)))
        u = side * (street.building_line(side) - 0.6)
        seed = int(rng.integers(2**31))
        if rng.random() < 0.5 and not street.near_junction(place, 3) and room.take(place, u, 0.9):
            items.append(Item('bicycle', place, u, float(rng.choice((0, np.pi))), seed))
    return items


def _trees(street: Street, rng: np.random.Generator, room: _Room) -> list[Item]:
    """Rows of trees at the kerb, denser where there is a verge."""
    items = []
    for side in (-1, 1):
        verge = street.verges[(side + 1) // 2]
        spacing = rng.uniform(8, 13) if verge > 0 else rng.uniform(14, 40)
        for s in np.arange(street.start, street.end, spacing):
            place = float(s + rng.uniform(-1, 1))
            u = side * (street.half_width + (verge / 2 if verge > 0 else 0.8))
            seed = int(rng.integers(2**31))
            if not street.near_junction(place, 4.5) and room.take(place, u, 1.0):
                items.append(Item('tree', place, u, 0.0, seed))
    return items


def _walkers(street: Street, rng: np.random.Generator, room: _Room, busy: float) -> list[Item]:
    """People on the pavements, some in pairs; most walk."""
    items = []
    s = street.start
    while s < street.end:
        s += float(rng.exponential(9.0 / busy)) + 1.0
        side = int(rng.choice((-1, 1)))
        inner = street.half_width + street.verges[(side + 1) // 2] + 0.5
        u = side * float(rng.uniform(inner, street.building_line(side) - 0.7))
        way = int(rng.choice((-1, 1)))
        speed = way * float(rng.uniform(1.0, 1.6)) if rng.random() < 0.8 else 0.0
        turn = (0.0 if way > 0 else np.pi) if speed else float(rng.uniform(0, 2 * np.pi))
        for k in range(2 if rng.random() < 0.25 else 1):
            seed = int(rng.integers(2**31))
            place = u + k * 0.75 * (1 if u < 0 else -1)
            if room.take(s, place, 0.35):
                items.append(Item('person', s, place, turn, seed, speed))
    for junction in street.junctions:  # someone on the zebra crossing now and then
        if rng.random() < 0.5:
            s = junction + float(rng.choice((-1, 1))) * (CROSS_HALF_WIDTH + 4.0)
            u = -float(rng.uniform(0.8, street.half_width))
            turn = float(rng.choice((-1, 1))) * np.pi / 2
            items.append(Item('person', s, u, turn, int(rng.integers(2**31))))
    return items


def _traffic(
    street: Street, rng: np.random.Generator, busy: float, room: _Room | None
) -> list[Item]:
    """Oncoming vehicles and riders; vehicles ahead too where nothing will move."""
    kinds, shares = ('car', 'truck', 'bus', 'motorcyclist'), (0.74, 0.07, 0.06, 0.13)
    lengths = {'car': 2.5, 'truck': 4.2, 'bus': 5.6, 'motorcyclist': 1.2}
    still = room is not None
    items = []
    for side in (-1, 1) if still else (-1,):
        s = street.start
        reach = street.end if still else 2.1 * street.end
        while s < reach:
            s += float(rng.uniform(13, 60) / busy)
            kind = str(rng.choice(kinds, p=shares))
            seed = int(rng.integers(2**31))
            u = side * (LANE + 0.1)
            parts = np.arange(-lengths[kind], lengths[kind] + 0.1, 1.2)
            if room is None or all(room.free(s + float(ds), u, 0.9) for ds in parts):
                items.append(Item(kind, s, u, 0.0 if side > 0 else np.pi, seed, side * 8.5))
        s = street.start
        while s < street.end:
            s += float(rng.uniform(25, 100) / busy)
            seed = int(rng.integers(2**31))
            if room is None or room.free(s, side * 3.1, 0.9):
                turn = 0.0 if side > 0 else np.pi
                items.append(Item('cyclist', s, side * 3.1, turn, seed, side * 4.5))
    return items

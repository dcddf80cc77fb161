# SPDX-License-Identifier: Apache-2.0
"""A street's layout from a seed: its course, width, junctions, lots and what stands along it.

Street coordinates: ``s`` metres along the street (the world's z), ``u`` metres to the right of its
middle line. The middle line bends gently, so that world x = u + bend(s).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import math

import numpy as np

from multishift_perception.sample_drive.paint.geometry import Floats
from multishift_perception.sample_drive.paint.seeding import generator
from multishift_perception.sample_drive.street.facades import VARIANTS, height_of, width_of

KERB = 0.13  # height, metres
LAMP_SPACING = 26.0
LAMP_HEIGHT = 6.5
CROSS_HALF_WIDTH = 3.6
LANE_WIDTH = 3.5
PARKING_WIDTH = 2.1
MIDDLE_LINES = ('dashed', 'solid', 'double', 'none')
STEP = 0.5  # of the look-up tables along the street, metres

YARD_SHARES = {
    'city': {'house': 0.86, 'garden': 0.07, 'park': 0.07},
    'suburb': {'house': 0.24, 'garden': 0.60, 'park': 0.16},
    'green': {'house': 0.34, 'garden': 0.26, 'park': 0.40},
}


@dataclass(frozen=True)
class Lot:
    """A piece of land along the street: ``side`` is -1 left or +1 right; metres.

    ``hidden`` tells how high the neighbours' houses stand against its own, at start and end.
    """

    side: int
    start: float
    end: float
    kind: str
    variant: int
    setback: float
    border: str
    seed: int
    hidden: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Markings:
    """What is painted along a road.

    Attributes:
        middle: line between the directions, one of ``MIDDLE_LINES``.
        edges: whether a line runs along the edges, where nobody parks.
        lanes: whether dashes part the lanes of one direction, every ``LANE_WIDTH``.
        left: how much of the paint is left, 0..1.
    """

    middle: str = 'dashed'
    edges: bool = False
    lanes: bool = False
    left: float = 1.0


@dataclass(frozen=True)
class Street:
    """Everything about a street that does not move.

    ``paved`` tells whether its pavements are; if not, all beside the road is grass or earth.
    """

    seed: int
    bends: tuple[tuple[float, float, float], ...]
    start: float
    end: float
    half_width: float
    parking: tuple[bool, bool]
    verges: tuple[float, float]
    pavement: float
    junctions: tuple[float, ...]
    lamp_offset: float
    paint: tuple[float, float, float]
    dashes: float
    tiles: tuple[int, int]
    sun_azimuth: float
    lots: tuple[Lot, ...]
    roofs: Floats
    grass: Floats
    markings: Markings = Markings()
    paved: bool = True

    def bend(self, s: Floats) -> Floats:
        """World x of the middle line at ``s``."""
        x = np.zeros_like(s)
        for size, length, phase in self.bends:
            x = x + np.float32(size) * np.sin(s * np.float32(1 / length) + np.float32(phase))
        return np.asarray(x, np.float32)

    def bend_at(self, s: float) -> float:
        """World x of the middle line at one place."""
        return math.fsum(a * math.sin(s / length + p) for a, length, p in self.bends)

    def heading(self, s: float) -> float:
        """Direction of the street at ``s``, radians, positive to the left."""
        slope = sum(a / length * np.cos(s / length + p) for a, length, p in self.bends)
        return -float(np.arctan(slope))

    def point(self, s: float, u: float, y: float = 0.0) -> Floats:
        """World position ``float32 [3]`` of street coordinates at height ``y``."""
        return np.array([self.bend_at(s) + u, y, s], np.float32)

    def ground_height(self, u: float) -> float:
        """Height of the road or pavement at ``u``."""
        return 0.0 if abs(u) < self.half_width else KERB

    def building_line(self, side: int) -> float:
        """Distance of the house fronts from the middle line on a side (-1 or +1)."""
        return self.half_width + self.verges[(side + 1) // 2] + self.pavement

    def table_index(self, s: Floats) -> Floats:
        """Index into ``roofs`` and ``grass`` for positions along the street."""
        last = self.roofs.shape[1] - 1
        return np.clip((s - self.start) * np.float32(1 / STEP), 0, last).astype(np.int32)

    def near_junction(self, s: float, margin: float) -> bool:
        """Whether a crossing street is within ``margin`` of ``s``."""
        return any(abs(s - j) < CROSS_HALF_WIDTH + margin for j in self.junctions)


def make_street(seed: int, split: str, start: float, end: float) -> Street:
    """Lay out a street from ``start`` to ``end`` metres."""
    rng = generator('street', split, seed)
    parking = (bool(rng.random() < 0.6), bool(rng.random() < 0.45))
    style = str(rng.choice(list(YARD_SHARES), p=(0.5, 0.28, 0.22)))
    lamp_offset = float(rng.uniform(0, LAMP_SPACING))
    every = 4 if end - start > 300 else int(rng.integers(2, 6))
    first = int(np.ceil((start - lamp_offset) / LAMP_SPACING)) + int(rng.integers(0, every))
    junctions = tuple(
        lamp_offset + (k + 0.5) * LAMP_SPACING
        for k in range(first, int((end - lamp_offset) / LAMP_SPACING), every)
    )
    lots = [
        lot
        for side in (-1, 1)
        for lot in _lots(
            generator('lots', split, seed, side + 1), side, start, end, style, junctions
        )
    ]
    count = int((end - start) / STEP) + 1
    roofs, grass = np.zeros((2, count), np.float32), np.zeros((2, count), np.float32)
    for lot in lots:
        span = slice(int((lot.start - start) / STEP), int((lot.end - start) / STEP) + 1)
        row = (lot.side + 1) // 2
        roofs[row, span] = height_of(lot.variant) if lot.kind == 'house' else 0.0
        grass[row, span] = 0.0 if lot.kind == 'house' else 1.0
    yellow = rng.random() < 0.15
    return Street(
        seed=seed,
        bends=(
            (float(rng.uniform(2, 6)), float(rng.uniform(55, 80)), float(rng.uniform(0, 6.3))),
            (float(rng.uniform(0, 4)), float(rng.uniform(90, 130)), float(rng.uniform(0, 6.3))),
        ),
        start=start,
        end=end,
        half_width=3.5 + float(rng.uniform(0.0, 0.3)) + (1.3 if any(parking) else 0.0),
        parking=parking,
        verges=(
            float(rng.choice([0.0, 1.5, 2.2])),
            float(rng.choice([0.0, 1.5, 2.2])),
        ),
        pavement=float(rng.uniform(2.2, 4.0)),
        junctions=junctions,
        lamp_offset=lamp_offset,
        paint=(222, 178, 60) if yellow else (214, 214, 210),
        dashes=float(rng.choice([6.0, 9.0, 12.0])),
        tiles=(int(rng.integers(8)), int(rng.integers(8))),
        sun_azimuth=float(rng.uniform(-np.pi, np.pi)),
        lots=tuple(lots),
        roofs=roofs,
        grass=grass,
    )


def _lots(
    rng: np.random.Generator,
    side: int,
    start: float,
    end: float,
    style: str,
    junctions: tuple[float, ...],
) -> list[Lot]:
    """Divide one side of the street into lots, leaving the crossing streets free."""
    shares = YARD_SHARES[style]
    gap = CROSS_HALF_WIDTH + 2.4
    stops = [*(j - gap for j in junctions), end]
    lots, s = [], start
    for stop, after in zip(stops, [*(j + gap for j in junctions), end], strict=True):
        while stop - s > 5.0:
            kind = str(rng.choice(list(shares), p=list(shares.values())))
            variant = int(rng.integers(VARIANTS))
            width = width_of(variant) + (float(rng.uniform(3, 9)) if kind != 'house' else 0.0)
            edge = min(s + width, stop)
            if stop - edge < 5.0:
                edge = stop
            border = str(rng.choice(['wall', 'fence', 'hedge', 'open'], p=(0.3, 0.3, 0.28, 0.12)))
            setback = float(rng.uniform(5, 9)) if kind == 'garden' else 0.0
            seed = int(rng.integers(2**31))
            lots.append(Lot(side, s, edge, kind, variant, setback, border, seed))
            s = edge
        s = max(s, after)
    return [
        replace(lot, hidden=(_shared(lots, k, k - 1), _shared(lots, k, k + 1)))
        for k, lot in enumerate(lots)
    ]


def _shared(lots: list[Lot], index: int, other: int) -> float:
    """Height of the house next to a lot's own where the two touch, else 0."""
    if not 0 <= other < len(lots):
        return 0.0
    here, there = lots[index], lots[other]
    touching = min(abs(here.start - there.end), abs(here.end - there.start)) < 0.01
    joined = touching and here.kind == there.kind == 'house'
    return height_of(there.variant) if joined else 0.0

# SPDX-License-Identifier: Apache-2.0
"""A drive along one street with two cameras, in time order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multishift_perception.sample_drive.light.lens import random_lens
from multishift_perception.sample_drive.light.weather import CONDITIONS, blend, weather_of
from multishift_perception.sample_drive.novel.novel_objects import NOVEL_OBJECTS
from multishift_perception.sample_drive.paint.geometry import Camera
from multishift_perception.sample_drive.paint.light import Light
from multishift_perception.sample_drive.paint.seeding import check_split, generator
from multishift_perception.sample_drive.render import View, render
from multishift_perception.sample_drive.street.street import Street, make_street
from multishift_perception.sample_drive.traffic.scene import LANE, Item, populate

CAMERAS = ('front', 'left')
YAWS = {'front': 0.0, 'left': np.pi / 4}
SPEED = 8.0  # metres per second
FIELD_OF_VIEW = np.deg2rad(85)
MOUNT_HEIGHT = 1.5
FADE = 1.2  # seconds over which one condition turns into the next


@dataclass(frozen=True)
class Frame:
    """A picture and its ground truth.

    Attributes:
        image: RGB ``uint8 [height, width, 3]``.
        labels: ``uint8 [height, width]``; Cityscapes train ids, 254 novel object, 255 void.
        condition: light and weather, one of ``CONDITIONS``.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    condition: str


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion; all in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


class Drive:
    """A seeded drive: the same arguments give the same frames, byte for byte, in any order."""

    def __init__(
        self,
        seed: int,
        *,
        split: str = 'demo',
        seconds: float = 48.0,
        size: tuple[int, int] = (360, 640),
    ) -> None:
        """Lay out the street and everything in it.

        Args:
            seed: a non-negative number that stands for the whole drive.
            split: one of ``SPLITS``; decides which novel objects occur.
            seconds: duration of the drive.
            size: (height, width) of the pictures, pixels.
        """
        check_split(split)
        if seconds <= 0:
            raise ValueError(f'seconds is {seconds}; it must be positive')
        self.seed = seed
        self.split = split
        self.seconds = seconds
        self.size = size
        street = make_street(seed, split, -60.0, SPEED * seconds + 150.0)
        novel, hazards = _obstacles(street, seed, split, SPEED * seconds)
        scene = populate(street, split, novel=novel, hazards=hazards, busy=1.0, still=False)
        looks = int(generator('lead', split, seed).integers(2**31))
        lead = Item('car', 40.0, LANE, 0.0, looks, SPEED, follows=True)
        self._scene = replace(scene, items=(*scene.items, lead))
        # Ahead of the camera for most of the drive: a low sun is worth seeing.
        self._azimuth = street.sun_azimuth * 0.4

    def condition(self, t: float) -> str:
        """Return the dominant condition at ``t`` seconds."""
        return CONDITIONS[self._segment(t)]

    def _segment(self, t: float) -> int:
        share = t / self.seconds * len(CONDITIONS)
        return int(np.clip(np.floor(share), 0, len(CONDITIONS) - 1))

    def _light(self, t: float) -> Light:
        """Light at a time, faded over the borders between conditions."""
        segment = self._segment(t)
        length = self.seconds / len(CONDITIONS)
        fade = min(FADE, 0.3 * length)
        since, left = t - segment * length, (segment + 1) * length - t
        here = weather_of(CONDITIONS[segment])
        if since < fade / 2 and segment > 0:
            before = weather_of(CONDITIONS[segment - 1])
            here = blend(here, before, 0.5 - since / fade)
        elif left < fade / 2 and segment < len(CONDITIONS) - 1:
            after = weather_of(CONDITIONS[segment + 1])
            here = blend(here, after, 0.5 - left / fade)
        return Light(here, self._azimuth)

    def intrinsics(self, camera: str) -> Intrinsics:
        """Return a camera's intrinsics."""
        height, width = self.size
        _yaw_of(camera)
        focal = width / 2 / float(np.tan(FIELD_OF_VIEW / 2))
        return Intrinsics(width, height, focal, focal, (width - 1) / 2, 0.47 * height)

    def render(self, camera: str, t: float) -> Frame:
        """Return what a camera sees at ``t`` seconds."""
        inside = self.intrinsics(camera)
        scene, s = self._scene, SPEED * t
        place = scene.street.point(s, scene.lane(s))
        drift = np.arctan(scene.lane(s + 0.5) - scene.lane(s - 0.5))
        heading = scene.street.heading(s) - float(drift)
        eye = Camera(
            width=inside.width,
            height=inside.height,
            focal=inside.fx,
            cx=inside.cx,
            cy=inside.cy,
            x=float(place[0]),
            y=MOUNT_HEIGHT,
            z=s,
            yaw=heading + _yaw_of(camera),
        )
        lens = random_lens(generator('lens', self.split, self.seed, camera), 0.3)
        view = View(eye, t, lens, heading)
        rng = generator('frame', self.split, self.seed, camera, round(t * 1e6))
        image, labels = render(scene, view, self._light(t), self.split, rng)
        return Frame(image, labels, self.condition(t))


def _yaw_of(camera: str) -> float:
    if camera not in YAWS:
        raise ValueError(f'unknown camera {camera!r}; one of {CAMERAS}')
    return YAWS[camera]


def _obstacles(
    street: Street, seed: int, split: str, distance: float
) -> tuple[tuple[Item, ...], tuple[float, ...]]:
    """Novel objects along a drive, in the own lane's edge, at the kerb and on the pavement."""
    rng = generator('obstacles', split, seed)
    items, hazards = [], []
    kinds: list[str] = []
    edge, s = street.half_width, 16.0
    while s < distance + 60:
        if not kinds:
            kinds = [str(k) for k in rng.permutation(NOVEL_OBJECTS[split])]
        where = str(rng.choice(['lane', 'kerb', 'pavement', 'opposite'], p=(0.3, 0.32, 0.2, 0.18)))
        parking_left, parking_right = street.parking
        if where == 'lane' or (where == 'kerb' and not parking_right):
            hazards.append(s)
        u = {
            'lane': 3.1,
            'kerb': edge - (0.95 if parking_right else 0.6),
            'pavement': edge + 1.1,
            'opposite': -(edge - 0.8) if parking_left else -(edge + 1.1),
        }[where]
        turn = float(rng.uniform(np.pi - 1.2, np.pi + 1.2))  # its front towards the camera
        items.append(Item(kinds.pop(), s, u, turn, int(rng.integers(2**31))))
        s += float(rng.uniform(12, 19))
    return tuple(items), tuple(hazards)

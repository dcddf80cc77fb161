# SPDX-License-Identifier: Apache-2.0
"""Pedestrians and riders as meshes, posed by the phase of their step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multishift_perception.sample_drive.paint.mesh import Mesh, join
from multishift_perception.sample_drive.paint.solids import box, ellipsoid, tubes

SKINS = ((236, 196, 168), (214, 166, 132), (176, 124, 92), (128, 86, 62), (88, 58, 44))
HAIRS = ((28, 22, 20), (62, 42, 28), (112, 78, 46), (176, 142, 88), (150, 148, 146), (120, 56, 30))


@dataclass(frozen=True)
class Looks:
    """A person's build and clothes; colours are sRGB."""

    height: float
    stout: float
    skin: tuple[float, ...]
    hair: tuple[float, ...]
    top: tuple[float, ...]
    sleeves: tuple[float, ...]
    legs: tuple[float, ...]
    shoes: tuple[float, ...]
    skirt: bool
    bag: bool
    hat: bool


def looks(rng: np.random.Generator) -> Looks:
    """Draw a person's looks."""

    def cloth() -> tuple[float, ...]:
        if rng.random() < 0.45:  # greys, navy, brown
            value = rng.uniform(20, 190) * np.array([1, 1, 1]) + rng.normal(0, 10, 3)
        else:
            value = rng.uniform(20, 225, 3)
        return tuple(np.clip(value, 10, 235).tolist())

    top = cloth()
    skin = SKINS[rng.integers(len(SKINS))]
    return Looks(
        height=float(rng.uniform(1.5, 1.92) if rng.random() < 0.88 else rng.uniform(1.1, 1.4)),
        stout=float(rng.uniform(0.85, 1.3)),
        skin=skin,
        hair=HAIRS[rng.integers(len(HAIRS))],
        top=top,
        sleeves=skin if rng.random() < 0.2 else top,
        legs=cloth(),
        shoes=cloth() if rng.random() < 0.3 else (36, 32, 32),
        skirt=bool(rng.random() < 0.22),
        bag=bool(rng.random() < 0.35),
        hat=bool(rng.random() < 0.18),
    )


def pedestrian(person: Looks, phase: float, stride: float) -> Mesh:
    """A standing (``stride`` 0) or walking (about 0.45) person that faces +z."""
    h, w = person.height, 0.155 * person.height / 1.75 * person.stout
    swing = stride * np.sin(phase)
    hip_y, knee_y, shoulder_y = 0.52 * h, 0.27 * h, 0.815 * h
    starts, ends, ra, rb, colors = [], [], [], [], []

    def limb(a: list[float], b: list[float], r0: float, r1: float, c: tuple[float, ...]) -> None:
        starts.append(a)
        ends.append(b)
        ra.append(r0)
        rb.append(r1)
        colors.append(c)

    for side in (-1, 1):
        reach = side * swing
        lift = max(0.0, side * stride * np.cos(phase)) * 0.35
        x = side * w * 0.55
        knee = [x, knee_y + 0.3 * lift * h, 0.24 * h * np.sin(reach) + 0.3 * lift * h]
        foot = [x, 0.04 * h + 0.4 * lift * h, 0.50 * h * np.sin(reach) - 0.35 * lift * h]
        limb([x, hip_y, 0], knee, 0.052 * h * person.stout, 0.04 * h, person.legs)
        shin = person.skin if person.skirt else person.legs
        limb(knee, foot, 0.038 * h, 0.028 * h, shin)
        limb(
            [x, foot[1], foot[2] - 0.04],
            [x, 0.02 * h + foot[1] * 0.5, foot[2] + 0.13],
            0.035 * h,
            0.025 * h,
            person.shoes,
        )
        arm = [side * w * 1.12, shoulder_y, 0]
        elbow = [side * w * 1.3, 0.635 * h, -0.17 * h * np.sin(reach)]
        hand = [side * w * 1.25, 0.49 * h, -0.26 * h * np.sin(reach) + 0.05]
        limb(arm, elbow, 0.034 * h, 0.028 * h, person.top)
        limb(elbow, hand, 0.027 * h, 0.021 * h, person.sleeves)
    limb([0, 0.8 * h, 0], [0, 0.89 * h, 0.01], 0.032 * h, 0.03 * h, person.skin)
    parts = [
        tubes(starts, ends, ra, rb, colors, sides=6),
        tubes(
            [[0, hip_y - 0.03, 0], [0, 0.68 * h, 0]],
            [[0, 0.68 * h, 0], [0, shoulder_y + 0.02, 0]],
            [w * 0.95, w * 0.98],
            [w * 0.98, w * 1.12],
            [person.top, person.top],
            sides=8,
            flatness=0.62,
        ),
        *_head(person, 0.93 * h, 0.015),
    ]
    if person.skirt:
        parts.append(
            tubes(
                [[0, 0.3 * h, 0]],
                [[0, 0.56 * h, 0]],
                w * 1.35,
                w * 0.9,
                person.legs,
                sides=8,
                flatness=0.8,
            )
        )
    if person.bag:
        parts.append(box((0, 0.70 * h, -w * 0.95), (w * 1.5, 0.2 * h, 0.14), person.shoes))
    return join(parts)


def _head(person: Looks, y: float, z: float) -> list[Mesh]:
    """Head, hair and perhaps a hat."""
    h = person.height
    parts = [
        ellipsoid((0, y, z), (0.047 * h, 0.066 * h, 0.055 * h), person.skin, rings=5, sides=8),
        ellipsoid(
            (0, y + 0.02 * h, z - 0.014 * h),
            (0.05 * h, 0.056 * h, 0.052 * h),
            person.hair,
            rings=4,
            sides=8,
        ),
    ]
    if person.hat:
        parts.append(
            ellipsoid(
                (0, y + 0.045 * h, z), (0.06 * h, 0.035 * h, 0.066 * h), person.legs, rings=4
            )
        )
    return parts


def rider(person: Looks, phase: float, seat: float, reach: float) -> Mesh:
    """A person on a saddle at height ``seat`` whose hands are ``reach`` metres ahead."""
    h, w = person.height, 0.15 * person.stout
    hip, shoulder = [0, seat + 0.08, -0.24], [0, seat + 0.08 + 0.29 * h, 0.02]
    starts, ends, radii, colors = [], [], [], []
    for side in (-1, 1):
        turn = phase + (np.pi if side > 0 else 0)
        foot = [side * 0.13, 0.30 + 0.16 * np.sin(turn), -0.02 + 0.16 * np.cos(turn)]
        knee = [side * 0.14, (hip[1] + foot[1]) / 2 + 0.12, 0.2]
        hand = [side * 0.25, seat + 0.12, reach]
        elbow = [side * 0.27, seat + 0.26, reach / 2 + 0.02]
        starts += [
            [side * 0.09, hip[1], hip[2]],
            knee,
            [side * w * 1.15, shoulder[1] - 0.03, 0.02],
            elbow,
        ]
        ends += [knee, foot, elbow, hand]
        radii += [0.085, 0.06, 0.055, 0.045]
        colors += [person.legs, person.legs, person.top, person.sleeves]
    helmet = ellipsoid(
        (0, shoulder[1] + 0.24, 0.10),
        (0.13, 0.13, 0.15),
        person.shoes if person.hat else person.top,
        rings=5,
    )
    return join(
        [
            tubes(starts, ends, radii, np.array(radii) * 0.8, colors, sides=6),
            tubes([hip], [shoulder], w * 0.95, w * 1.12, person.top, sides=8, flatness=0.62),
            *_head(person, shoulder[1] + 0.19, 0.08),
            helmet,
        ]
    )

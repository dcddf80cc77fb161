# SPDX-License-Identifier: Apache-2.0
"""What a generated image is set in: time of day, weather and place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from multishift_training.augmentation.procedural.colors import Range
from multishift_training.augmentation.procedural.view import Floats

# Share of images, and light: linear RGB of the sun, of the sky's light, of zenith and skyline.
_TIMES: dict[str, tuple[float, tuple[tuple[float, float, float], ...]]] = {
    'day': (0.42, ((1.0, 0.93, 0.82), (0.42, 0.47, 0.56), (0.16, 0.33, 0.70), (0.62, 0.76, 0.9))),
    'low-sun': (0.2, ((1.3, 0.8, 0.4), (0.27, 0.3, 0.4), (0.25, 0.36, 0.62), (1.0, 0.72, 0.42))),
    'dusk': (0.15, ((0.1, 0.06, 0.06), (0.2, 0.19, 0.29), (0.07, 0.09, 0.2), (0.5, 0.27, 0.22))),
    'night': (
        0.23,
        ((0.0, 0.0, 0.0), (0.035, 0.037, 0.05), (0.002, 0.0025, 0.005), (0.011, 0.009, 0.008)),
    ),
}
_WEATHER = {'clear': 0.36, 'cloudy': 0.2, 'foggy': 0.15, 'rainy': 0.16, 'snowy': 0.13}
# Walls of a place, as ranges of 8-bit RGB.
PLACES: dict[str, Range] = {
    'brick': ((105, 55, 40), (170, 105, 85)),
    'plaster': ((165, 145, 110), (228, 215, 185)),
    'concrete': ((105, 105, 105), (180, 180, 178)),
    'painted': ((95, 85, 80), (230, 215, 200)),
    'sandstone': ((150, 125, 85), (205, 180, 135)),
    'modern': ((70, 80, 90), (190, 200, 210)),
}


class Domain(NamedTuple):
    """A drawn domain.

    Attributes:
        words: time, weather and place.
        sun: its light, linear RGB ``float32 [3]``; a white surface that gets 1 shows as white.
        side: direction of the sun: -1 left, 1 right.
        ambient: the sky's light, likewise.
        zenith: colour of the sky above, linear RGB.
        skyline: colour of the sky at the horizon, linear RGB.
        clouds: their share of the sky.
        air: colour of distant air, linear RGB.
        haze: extinction of light in air, per metre.
        lamps: brightness of electric lights.
        wet: how much the ground mirrors, 0..1.
        snow: share of the ground that is covered, 0..1.
        dryness: of the plants, 0 green to 1 brown.
    """

    words: dict[str, str]
    sun: Floats
    side: float
    ambient: Floats
    zenith: Floats
    skyline: Floats
    clouds: float
    air: Floats
    haze: float
    lamps: float
    wet: float
    snow: float
    dryness: float


def draw(rng: np.random.Generator) -> Domain:
    """Draw a domain."""
    time = str(rng.choice(list(_TIMES), p=[share for share, _ in _TIMES.values()]))
    weather = str(rng.choice(list(_WEATHER), p=list(_WEATHER.values())))
    place = str(rng.choice(list(PLACES)))
    sun, ambient, zenith, skyline = (np.array(c, np.float32) for c in _TIMES[time][1])
    tint = rng.uniform(0.92, 1.08, 3).astype(np.float32)
    cover = float(rng.uniform(0, 0.5)) if weather == 'clear' else float(rng.uniform(0.75, 1))
    if weather != 'clear':
        sun, ambient, zenith, skyline = _overcast(sun, ambient, skyline)
    gain = np.float32(rng.uniform(0.8, 1.2))
    return Domain(
        words={'time': time, 'weather': weather, 'place': place},
        sun=sun * gain * tint,
        side=float(rng.uniform(-1, 1)),
        ambient=ambient * gain * tint,
        zenith=zenith * tint,
        skyline=skyline * tint,
        clouds=cover,
        air=skyline * tint * np.float32(0.9),
        haze=_haze(weather, rng),
        lamps=float({'night': 1.0, 'dusk': 0.35}.get(time, 0.0) * rng.uniform(0.6, 1.3)),
        wet=float(rng.uniform(0.4, 1)) if weather == 'rainy' else 0.0,
        snow=float(rng.uniform(0.6, 1)) if weather == 'snowy' else 0.0,
        dryness=float(rng.beta(0.8, 1.6)),
    )


def _overcast(sun: Floats, ambient: Floats, skyline: Floats) -> tuple[Floats, ...]:
    """Return the light of the same hour under clouds: grey, and from everywhere."""
    total = np.float32(0.35 * sun.mean() + ambient.mean())
    grey = np.array((0.97, 1.0, 1.04), np.float32)
    light = grey * total
    bright = np.float32(min(0.95, 1.0 * float(skyline.mean())))
    return np.zeros(3, np.float32), light, grey * bright * np.float32(0.8), grey * bright


def _haze(weather: str, rng: np.random.Generator) -> float:
    least, most = {
        'clear': (0.0002, 0.002),
        'cloudy': (0.0005, 0.004),
        'foggy': (0.015, 0.07),
        'rainy': (0.002, 0.012),
        'snowy': (0.003, 0.02),
    }[weather]
    return float(np.exp(rng.uniform(np.log(least), np.log(most))))

# SPDX-License-Identifier: Apache-2.0
"""Light as painters need it: what the weather gives, and where the sun stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from multishift_perception.sample_drive.paint.geometry import Floats

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Weather:
    """What the light and the air do; colours are linear RGB after exposure.

    Attributes:
        sun: direct light on a surface that faces the sun.
        ambient: light of the whole sky on a surface that faces up.
        zenith, horizon, cloud: colours of the sky.
        air: colour of fog and haze.
        elevation: height of the sun, radians.
        cloudiness: share of the sky under cloud, 0..1.
        haze: extinction of the air, 1 / m.
        lamps: power of street lamps and of lit windows, 0..1.
        headlights: power of vehicles' lights, 0..1.
        wet: wetness of the ground, 0..1.
        rain: rain in the air and on the lens, 0..1.
        noise: sensor noise, 8-bit steps at mid grey.
        bloom: how much light the lens spreads.
        saturation: 1 leaves colours alone.
        glare: brightness of the sun's disc and halo in the lens.
    """

    sun: Rgb
    ambient: Rgb
    zenith: Rgb
    horizon: Rgb
    cloud: Rgb
    air: Rgb
    elevation: float
    cloudiness: float
    haze: float
    lamps: float = 0.0
    headlights: float = 0.0
    wet: float = 0.0
    rain: float = 0.0
    noise: float = 1.5
    bloom: float = 0.05
    saturation: float = 1.0
    glare: float = 0.0


@dataclass(frozen=True)
class Light:
    """The weather's light in the world: its numbers and where the sun stands."""

    weather: Weather
    sun_azimuth: float

    @cached_property
    def sun_direction(self) -> Floats:
        """Unit vector towards the sun, world axes."""
        e, a = self.weather.elevation, self.sun_azimuth
        return np.array([np.cos(e) * -np.sin(a), np.sin(e), np.cos(e) * np.cos(a)], np.float32)

    @cached_property
    def full(self) -> Floats:
        """Light on a surface that faces both sun and sky, linear RGB."""
        return np.array(self.weather.sun, np.float32) + np.array(self.weather.ambient, np.float32)

    @cached_property
    def _shares(self) -> tuple[Floats, Floats]:
        """What ambient light and sun contribute to ``full``."""
        ambient = np.array(self.weather.ambient, np.float32)
        return ambient / self.full, np.array(self.weather.sun, np.float32) / self.full

    def shade(self, normals: Floats) -> Floats:
        """Return sRGB factors ``[n, 3]`` of surfaces, relative to light of ``full``."""
        ambient, sun = self._shares
        facing = np.maximum(normals @ self.sun_direction, 0)[:, None]
        open_sky = (np.float32(0.62) + np.float32(0.38) * normals[:, 1])[:, None]
        return np.asarray((ambient * open_sky + sun * facing) ** np.float32(1 / 2.2))

# SPDX-License-Identifier: Apache-2.0
"""Weather: one set of numbers per condition, and the blend between two of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from multishift_perception.sample_drive.paint.light import Weather

CONDITIONS = ('day', 'low_sun', 'dusk', 'night', 'rain', 'fog')

BY_CONDITION: dict[str, Weather] = {
    'day': Weather(
        sun=(1.28, 1.20, 1.06),
        ambient=(0.42, 0.49, 0.60),
        zenith=(0.10, 0.24, 0.58),
        horizon=(0.50, 0.66, 0.84),
        cloud=(0.95, 0.96, 0.98),
        air=(0.55, 0.66, 0.80),
        elevation=0.85,
        cloudiness=0.45,
        haze=0.0016,
        glare=0.3,
    ),
    'low_sun': Weather(
        sun=(1.55, 0.92, 0.42),
        ambient=(0.22, 0.25, 0.34),
        zenith=(0.16, 0.28, 0.52),
        horizon=(1.05, 0.72, 0.40),
        cloud=(1.10, 0.78, 0.52),
        air=(0.92, 0.66, 0.42),
        elevation=0.24,
        cloudiness=0.35,
        haze=0.0042,
        noise=1.8,
        bloom=0.16,
        saturation=1.05,
        glare=2.4,
    ),
    'dusk': Weather(
        sun=(0.03, 0.02, 0.02),
        ambient=(0.20, 0.225, 0.31),
        zenith=(0.07, 0.12, 0.28),
        horizon=(0.78, 0.46, 0.28),
        cloud=(0.30, 0.22, 0.25),
        air=(0.32, 0.27, 0.30),
        elevation=0.06,
        cloudiness=0.5,
        haze=0.003,
        lamps=0.55,
        headlights=0.35,
        noise=2.6,
        bloom=0.16,
        saturation=0.95,
    ),
    'night': Weather(
        sun=(0.004, 0.005, 0.007),
        ambient=(0.024, 0.028, 0.042),
        zenith=(0.006, 0.009, 0.020),
        horizon=(0.046, 0.038, 0.036),
        cloud=(0.034, 0.028, 0.028),
        air=(0.030, 0.027, 0.028),
        elevation=0.9,
        cloudiness=0.6,
        haze=0.003,
        lamps=1.0,
        headlights=1.0,
        noise=3.4,
        bloom=0.22,
        saturation=0.9,
    ),
    'rain': Weather(
        sun=(0.03, 0.03, 0.03),
        ambient=(0.50, 0.52, 0.56),
        zenith=(0.26, 0.29, 0.33),
        horizon=(0.48, 0.51, 0.54),
        cloud=(0.40, 0.42, 0.45),
        air=(0.44, 0.47, 0.50),
        elevation=0.8,
        cloudiness=1.0,
        haze=0.0085,
        lamps=0.06,
        headlights=0.35,
        wet=1.0,
        rain=1.0,
        noise=2.4,
        bloom=0.12,
        saturation=0.8,
    ),
    'fog': Weather(
        sun=(0.03, 0.03, 0.03),
        ambient=(0.50, 0.52, 0.54),
        zenith=(0.56, 0.59, 0.62),
        horizon=(0.60, 0.62, 0.64),
        cloud=(0.60, 0.62, 0.64),
        air=(0.60, 0.62, 0.64),
        elevation=0.7,
        cloudiness=0.6,
        haze=0.026,
        lamps=0.04,
        headlights=0.3,
        wet=0.12,
        noise=1.8,
        bloom=0.12,
        saturation=0.82,
    ),
}


def weather_of(condition: str) -> Weather:
    """Return the numbers of a condition; refuses unknown ones."""
    if condition not in BY_CONDITION:
        raise ValueError(f'unknown condition {condition!r}; one of {CONDITIONS}')
    return BY_CONDITION[condition]


def blend(first: Weather, second: Weather, share: float) -> Weather:
    """Return the weather that lies ``share`` (0..1) of the way from the first to the second."""
    if share <= 0:
        return first
    values: dict[str, Any] = {}
    for field in fields(Weather):
        a, b = getattr(first, field.name), getattr(second, field.name)
        mixed = np.asarray(a) * (1 - share) + np.asarray(b) * share
        values[field.name] = tuple(mixed.tolist()) if mixed.ndim else float(mixed)
    return Weather(**values)

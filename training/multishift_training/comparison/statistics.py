# SPDX-License-Identifier: Apache-2.0
"""What a few seeds tell: mean and spread, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: over the seeds.
        least: of the seeds.
        largest: of the seeds.
    """

    mean: float
    least: float
    largest: float


@dataclass(frozen=True)
class Difference:
    """A paired difference.

    Attributes:
        mean: over the seeds that both have.
        low: of the interval that holds the true mean with 95 % confidence (Student's t; the
            differences of seeds taken for normal); None with one seed.
        high: likewise.
        seeds: how many both have.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int


def spread(by_seed: Mapping[int, float]) -> Spread | None:
    """Return the spread of a figure; None without seeds."""
    if not by_seed:
        return None
    values = list(by_seed.values())
    return Spread(float(np.mean(values)), min(values), max(values))


def paired_difference(
    by_seed: Mapping[int, float], baseline: Mapping[int, float]
) -> Difference | None:
    """Return how much larger a figure is than the baseline's; None without a seed of both."""
    shared = [seed for seed in by_seed if seed in baseline]
    if not shared:
        return None
    differences = np.array([by_seed[seed] - baseline[seed] for seed in shared])
    mean, count = float(differences.mean()), len(shared)
    if count == 1:
        return Difference(mean, None, None, count)
    error = differences.std(ddof=1) / np.sqrt(count)
    half = float(t.ppf((1 + _CONFIDENCE) / 2, count - 1) * error)
    return Difference(mean, mean - half, mean + half, count)

# SPDX-License-Identifier: Apache-2.0
"""Calibrations that are made up, for networks of any weights."""

from __future__ import annotations

import pytest

from multishift_perception.engine import Calibration


@pytest.fixture(scope='session')
def calibration() -> Calibration:
    """One of two segments, which compilers are soon done with."""
    return Calibration(
        knots=[(-40.0, 0.0), (0.0, 128.0), (40.0, 255.0)],
        operating_point=0.0,
        rule='made up',
        dataset='none',
    )


@pytest.fixture(scope='session')
def many_segments() -> Calibration:
    """One of more segments than a CPU has vector registers."""
    return Calibration(
        knots=[(2.0 * i, max(0.0, 128 + 4.0 * i)) for i in range(-32, 0)]
        + [(2.0 * i, 128 + 3.5 * i) for i in range(33)],
        operating_point=0.0,
        rule='made up',
        dataset='none',
    )

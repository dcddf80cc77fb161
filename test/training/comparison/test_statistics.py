# SPDX-License-Identifier: Apache-2.0
"""Mean, spread, and differences paired by seed."""

from __future__ import annotations

import pytest
from scipy.stats import ttest_rel

from multishift_training.comparison.statistics import Spread, paired_difference, spread


def test_spread() -> None:
    assert spread({0: 0.25, 1: 0.5, 4: 0.75}) == Spread(0.5, 0.25, 0.75)
    assert spread({}) is None


def test_interval_is_that_of_the_paired_t_test() -> None:
    ours, base = {0: 0.31, 1: 0.42, 2: 0.36, 3: 0.30}, {0: 0.28, 1: 0.41, 2: 0.30, 3: 0.27}
    found = paired_difference(ours, base)
    assert found is not None
    low, high = ttest_rel(list(ours.values()), list(base.values())).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.mean == pytest.approx(0.0325)
    assert found.seeds == 4


def test_seeds_are_paired_whatever_their_order() -> None:
    # Closed worlds that differ by far more than the ways do.
    found = paired_difference({1: 0.52, 0: 0.12, 7: 0.9}, {0: 0.1, 1: 0.5, 2: 0.3})
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.02, 0.02, 0.02))
    assert found.seeds == 2


def test_one_seed_has_no_interval() -> None:
    found = paired_difference({3: 0.5}, {3: 0.25, 4: 0.1})
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.25, None, None)
    assert paired_difference({3: 0.5}, {4: 0.1}) is None

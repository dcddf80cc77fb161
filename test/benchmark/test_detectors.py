# SPDX-License-Identifier: Apache-2.0
"""What detectors that stand on different ways are compared by."""

from __future__ import annotations

from pathlib import Path
import runpy

from multishift_training.comparison.statistics import Difference

script = runpy.run_path(str(Path(__file__).with_name('detectors.py')))


def test_ranks_are_compared_seed_by_seed_over_the_ways_that_have_both() -> None:
    base = {'a': {0: 0.1, 1: 0.3}, 'b': {0: 0.2, 1: 0.2}, 'c': {0: 0.3, 1: 0.1}, 'd': {0: 0.4}}
    detector = {'a': {0: 0.5, 1: 0.5}, 'b': {0: 0.6, 1: 0.6}, 'c': {0: 0.9, 1: 0.9}}
    assert script['rank_correlation'](base, detector) == {0: 1.0, 1: -1.0}


def test_differences_are_shown_with_their_interval_where_there_is_one() -> None:
    assert script['shown'](Difference(0.034, 0.003, 0.065, 3)) == '+3.4 [+0.3, +6.5]'
    assert script['shown'](Difference(-0.034, None, None, 1)) == '-3.4'

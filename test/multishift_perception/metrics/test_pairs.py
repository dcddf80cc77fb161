# SPDX-License-Identifier: Apache-2.0
"""Pairs of values are counted one by one or run by run, and the counts are the same."""

from __future__ import annotations

import numpy as np
import pytest

from multishift_perception.metrics import pairs, score_keys
from multishift_perception.metrics.pairs import count_pairs
from multishift_perception.metrics.score_keys import KeyBuffer


@pytest.mark.parametrize('run', [1, 40])
@pytest.mark.parametrize('piece', [1 << 24, 1000])
def test_pairs_are_counted(run: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, '_PIECE', piece)
    rng = np.random.default_rng(run)
    first, second = rng.integers(0, [[[4]], [[256]]], (2, 30, 8)).astype(np.uint8)
    first, second = (np.repeat(image, run, axis=1) for image in (first, second))
    expected = np.zeros((4, 256), np.int64)
    np.add.at(expected, (first, second), 1)
    np.testing.assert_array_equal(count_pairs(first, second, firsts=4), expected)
    # Of any layout, and of no pixel.
    turned = count_pairs(first.T, second.T)
    np.testing.assert_array_equal(turned[:4], expected)
    assert not turned[4:].any()
    assert not count_pairs(first[:0], second[:0]).any()


@pytest.mark.parametrize('known', [3, 9000])
@pytest.mark.parametrize('radix', [False, True])
def test_keys_are_sorted_where_many_wait_and_where_few(
    known: int, radix: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which one is taken is a matter of the machine.
    assert score_keys._radix_sort_is_faster() in (False, True)
    monkeypatch.setattr(score_keys, '_radix_sort_is_faster', lambda: radix)
    keys = np.random.default_rng(known).integers(0, 1 << 32, 10_000, np.uint32)
    keys[:2] = 0, 0xFFFFFFFF
    buffer = KeyBuffer(keys.size)
    buffer.append(keys[:known], keys[known:])
    for found, given in zip(buffer.empty(), (keys[:known], keys[known:]), strict=True):
        np.testing.assert_array_equal(found, np.sort(given))

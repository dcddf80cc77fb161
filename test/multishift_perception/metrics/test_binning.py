# SPDX-License-Identifier: Apache-2.0
"""How exact keys become bins: what bins may hold and reach, and that nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest

from multishift_perception.metrics.binning import Binned, Resolution, combine, intervals, thin

Keys = np.ndarray


def normal(rng: np.random.Generator, size: int) -> Keys:
    return (2**31 + rng.normal(0, 2**27, size)).astype(np.uint32)


def clustered(rng: np.random.Generator, size: int) -> Keys:
    centers = rng.integers(2**20, 2**32 - 2**20, 50)
    return (rng.choice(centers, size) + rng.integers(0, 500, size)).astype(np.uint32)


def tied(rng: np.random.Generator, size: int) -> Keys:
    return np.where(rng.random(size) < 0.3, np.uint32(2**31), normal(rng, size))


def exact(known: Keys, novel: Keys) -> Binned:
    keep = Resolution(0, 1, False)
    parts = [thin(np.sort(keys), row, keep) for row, keys in enumerate((known, novel))]
    return combine(parts, keep)


@pytest.mark.parametrize('keys', [normal, clustered, tied])
def test_shared_bins_hold_no_more_than_the_resolution_allows(keys) -> None:
    rng = np.random.default_rng(0)
    known, novel = keys(rng, 90_000), keys(rng, 10_000)
    tolerance, share = 1e-3, 2e-4

    binned = combine([exact(known, novel)], Resolution(tolerance, share, False))

    low, high = intervals(binned.codes)
    assert (binned.counts.sum(1) == (90_000, 10_000)).all()
    both = np.sort(np.concatenate([known, novel]))
    shared = low < high
    assert 100 < shared.sum() and low.size < 30_000
    above = both.size - np.searchsorted(both, low[shared])
    inside = np.searchsorted(both, high[shared], 'right') - np.searchsorted(both, low[shared])
    # Three units of half that size, each with more where a score is repeated.
    repeated = np.unique(both, return_counts=True)[1]
    allowed = 1.5 * np.clip(tolerance * above, 1, share * both.size)
    assert (inside <= allowed + 3 * repeated[repeated < share * both.size].max()).all()
    # The highest 1 / tolerance pixels are apart, and so is the tie.
    assert high[shared].max() <= both[-int(1 / tolerance)]
    if keys is tied:
        tie = np.flatnonzero((low == 2**31) & (high == 2**31))
        assert binned.counts[:, tie].sum() == np.count_nonzero(both == 2**31)


@pytest.mark.parametrize('keys', [normal, clustered, tied])
def test_thinned_keys_are_few_and_in_bins_around_them(keys) -> None:
    rng = np.random.default_rng(1)
    pixels = np.sort(keys(rng, 100_000))
    codes, counts = thin(pixels, 1, Resolution(1e-3, 1e-3, False))

    assert (np.diff(codes) >= 0).all()
    assert counts.sum(1).tolist() == [0, 100_000]
    low, high = intervals(codes)
    assert codes.size < 20_000
    # Every prefix of the bins has at least the pixels that can be nowhere else.
    up_to = np.cumsum(counts[1])
    assert (up_to >= np.searchsorted(pixels, low, 'left')[: up_to.size] - 300).all()
    inside = np.searchsorted(pixels, high, 'right') - np.searchsorted(pixels, low)
    assert (counts[1] <= inside).all()
    shared = low < high
    above = pixels.size - np.searchsorted(pixels, high, 'right')
    assert (inside[shared] <= 3 * np.clip(1e-3 * above[shared], 1, 100) + 3).all()


def test_novel_keys_stay_exact_and_part_known_ones_where_asked() -> None:
    rng = np.random.default_rng(2)
    known, novel = normal(rng, 50_000), normal(rng, 50)

    binned = combine([exact(known, novel)], Resolution(1e-2, 1e-2, True))

    low, high = intervals(binned.codes)
    shared = low < high
    assert binned.codes.size < 10_000
    assert binned.counts[1, ~shared].sum() == 50
    assert not ((low[shared] <= novel[:, None]) & (novel[:, None] <= high[shared])).any()
    few = thin(np.sort(novel), 1, Resolution(0.5, 0.5, True))
    assert (intervals(few.codes)[0] == np.unique(novel)).all()


def test_counts_beyond_32_bits_are_kept() -> None:
    many = Binned(np.array([5 << 5]), np.array([[2**32 - 1], [7]], np.uint32))
    total = combine([many, many], Resolution(0, 1, False))
    assert total.codes.tolist() == [5 << 5]
    assert total.counts.tolist() == [[2**33 - 2], [14]]

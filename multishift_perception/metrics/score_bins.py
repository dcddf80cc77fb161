# SPDX-License-Identifier: Apache-2.0
"""Counts of scores in a few bins that several parts of a data set share, so that they add up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multishift_perception.metrics.histogram import Bins
from multishift_perception.metrics.score_keys import Keys


def rank_edges(bins: Bins, count: int) -> Keys:
    """Return the lowest keys of some bins between which known and novel pixels spread evenly.

    Bins narrow towards the top, where precision is decided by few pixels.

    Args:
        bins: of all parts together.
        count: bins for each kind of pixel, at most.

    Returns:
        ``uint32``, rising; everything below the first is in its bin too.
    """
    steps = np.linspace(0, 1, count, endpoint=False)
    tail = 1 - np.geomspace(1e-7, 1, count)
    edges = [np.zeros(1, np.uint32)]
    for pixels in bins.counts:
        total = np.cumsum(pixels, dtype=np.int64)
        if total.size and total[-1]:
            places = np.searchsorted(total, np.append(steps, tail) * total[-1], side='right')
            edges.append(bins.low[np.minimum(places, total.size - 1)])
    return np.unique(np.concatenate(edges))


def count_in_bins(bins: Bins, edges: Keys) -> NDArray[np.int64]:
    """Return the known (row 0) and novel pixels (row 1) of one part by bin, ``int64 [2,B]``.

    Args:
        bins: of the part.
        edges: the lowest keys of the bins, as `rank_edges` returns them.
    """
    place = np.searchsorted(edges, bins.low, side='right') - 1
    return np.stack(
        [np.bincount(place, pixels, edges.size).astype(np.int64) for pixels in bins.counts]
    )

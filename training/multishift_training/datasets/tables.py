# SPDX-License-Identifier: Apache-2.0
"""From the label values of a data set to ours: look-up tables ``uint8 [256]``.

A value that a data set does not use maps to ``UNMAPPED``, which reading refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import CITYSCAPES, NOVEL, VOID
from multishift_perception.images.label_map import UNMAPPED

Table = NDArray[np.uint8]

IDENTITY = {c: c for c in range(len(CITYSCAPES))}
# Known pixels are of no stated class: they read 0.
ANOMALY = {0: 0, 1: NOVEL, VOID: VOID}


def table_of(values: Mapping[int, int]) -> Table:
    """Return a new table of raw values and labels."""
    table = np.full(256, UNMAPPED, np.uint8)
    for raw, ours in values.items():
        table[raw] = ours
    return table


def spans(values: Iterable[int]) -> str:
    """Return numbers as text with ranges, such as ``0..18, 255``."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ', '.join(str(low) if low == high else f'{low}..{high}' for low, high in runs)

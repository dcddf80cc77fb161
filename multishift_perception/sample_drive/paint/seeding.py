# SPDX-License-Identifier: Apache-2.0
"""Random generators by purpose: what is drawn for one thing never shifts another's draws."""

from __future__ import annotations

import numpy as np

SPLITS = ('train', 'val', 'demo')


def check_split(split: str) -> None:
    """Refuse a split that is not one of ``SPLITS``."""
    if split not in SPLITS:
        raise ValueError(f'unknown split {split!r}; one of {SPLITS}')


def generator(*keys: int | str) -> np.random.Generator:
    """A generator for a purpose: words and non-negative numbers in, independent streams out."""
    words: list[int] = []
    for key in keys:
        words.extend(key.encode() if isinstance(key, str) else (key % 2**64,))
        words.append(len(words))
    return np.random.default_rng(np.random.SeedSequence(words))

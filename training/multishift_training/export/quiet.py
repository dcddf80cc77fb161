# SPDX-License-Identifier: Apache-2.0
"""Words of libraries that tell users of ours nothing, silenced around the calls that say them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging
import warnings


@contextmanager
def quiet_copies() -> Iterator[None]:
    """Let programs be copied: PyTorch makes the copies' trees in a way that it deprecates."""
    with warnings.catch_warnings():
        message = r'`isinstance\(treespec, LeafSpec\)` is deprecated'
        warnings.filterwarnings('ignore', message, FutureWarning)
        yield


@contextmanager
def quiet_below(name: str, level: int) -> Iterator[None]:
    """Let the logger of that name say nothing below a level."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)

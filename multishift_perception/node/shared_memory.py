# SPDX-License-Identifier: Apache-2.0
"""Shared memory of Fast DDS that killed processes left behind: nothing ever frees it by itself."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
import time

_FOLDER = Path('/dev/shm')
# A process locks the second of a segment's files as long as it lives; those of ports are shared,
# and taken over by the next process. The first name is Jazzy's, the other Kilted's.
_SEGMENTS = tuple(f'{name}_' + '[0-9a-f]' * 16 for name in ('fastrtps', 'fastdds'))
_LOCK = '_el'
# One that is just being made is not locked yet.
_GRACE_S = 2.0
_MOST_NAMES = 20


def name_leftovers() -> str:
    """Return how much memory was left behind and in which files, newest first; empty if none."""
    left = [path for path in _segments() if _is_left(path)]
    if not left:
        return ''
    names = ', '.join(path.name for path in left[:_MOST_NAMES])
    more = f' and {len(left) - _MOST_NAMES} more' if len(left) > _MOST_NAMES else ''
    size = sum(path.stat().st_size for path in left if path.exists()) / 1e6
    return (
        f'{size:.1f} MB of shared memory are left of processes that were killed: {names}{more} '
        f'in {_FOLDER}; `fastdds shm clean` frees them'
    )


def _segments() -> list[Path]:
    paths = (path for pattern in _SEGMENTS for path in _FOLDER.glob(pattern))
    ages = {path: _modified_at(path) for path in paths}
    oldest = time.time() - _GRACE_S
    return sorted((p for p in ages if ages[p] < oldest), key=lambda p: ages[p], reverse=True)


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it is gone
        return time.time()


def _is_left(segment: Path) -> bool:
    try:
        handle = os.open(segment.with_name(segment.name + _LOCK), os.O_RDONLY)
    except OSError:  # it is gone, or of another user
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True

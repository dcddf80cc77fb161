# SPDX-License-Identifier: Apache-2.0
"""How the C library hands out large buffers."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BELOW = 1 << 30


def keep_large_buffers() -> None:
    """Have glibc reuse large buffers instead of mapping new ones each time.

    New ones are zeroed page by page on first use, by the kernel. Receiving and publishing large
    images costs a third to a quarter without that, and training on a CPU gains too. Other C
    libraries have no such call and are left as they are.
    """
    tune = getattr(ctypes.CDLL(None), 'mallopt', None)
    if tune is not None:
        tune(_M_MMAP_THRESHOLD, _KEEP_BELOW)
        tune(_M_TRIM_THRESHOLD, _KEEP_BELOW)

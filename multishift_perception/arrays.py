# SPDX-License-Identifier: Apache-2.0
"""Types of arrays, and what OpenCV returns as one of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def as_bytes(array: Any) -> Bytes:
    """Return what OpenCV made of bytes, whose type its stubs leave open; nothing is copied."""
    return np.asarray(array, np.uint8)

# SPDX-License-Identifier: Apache-2.0
"""What several metrics check or divide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def check_shapes(values: NDArray[np.generic], truth: NDArray[np.uint8]) -> None:
    """See that what was predicted has the shape of the ground truth.

    Raises:
        ValueError: it has not.
    """
    if values.shape != truth.shape:
        raise ValueError(f'prediction has shape {values.shape}, ground truth {truth.shape}')


def ratio(part: int, whole: int) -> float | None:
    """Return a share, None where there is no whole."""
    return float(part / whole) if whole else None

# SPDX-License-Identifier: Apache-2.0
"""Types of arrays."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

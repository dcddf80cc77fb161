# SPDX-License-Identifier: Apache-2.0
"""Host memory that a GPU copies to and from by itself.

PyTorch keeps such memory and hands it out again once its tensor is gone: hardly ever is any
allocated.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pinned(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return page-locked host memory."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


def read_back(there: Tensor) -> Tensor:
    """Start to copy a tensor from the GPU to page-locked memory, which the caller may keep."""
    here = pinned(there.shape, there.dtype)
    here.copy_(there, non_blocking=True)
    return here

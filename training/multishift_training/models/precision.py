# SPDX-License-Identifier: Apache-2.0
"""Where 16 bits do not do in mixed precision: values in 32, and computations in their own type."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def in_full(x: Tensor) -> Tensor:
    """Return what mixed precision left in 16 bits in 32; what has more stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def exactly(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which mixed precision computes with ``x`` and the like in its type."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()  # an exported program has no place for contexts

# SPDX-License-Identifier: Apache-2.0
"""What a part of a network says beside its output."""

from __future__ import annotations

from torch import Tensor


class Noted:
    """A tensor that a module leaves to whoever asks after the forward pass.

    No attribute of the module, so that it is neither copied nor exported with it.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._tensor: Tensor | None = None

    def put(self, tensor: Tensor) -> None:
        """Leave a tensor in the place of the last one."""
        self._tensor = tensor

    def take(self) -> Tensor:
        """Return it, once."""
        tensor, self._tensor = self._tensor, None
        assert tensor is not None
        return tensor

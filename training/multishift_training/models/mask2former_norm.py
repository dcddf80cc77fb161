# SPDX-License-Identifier: Apache-2.0
"""Batch norm that is a fixed scale and shift, in training too."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FrozenBatchNorm2d(nn.Module):
    """What an `nn.BatchNorm2d` computes in evaluation, in both modes.

    Its tensors are buffers: whoever trains "all parameters" leaves them alone, as the published
    code does.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        """Take the tensors of ``norm``, under the same names."""
        super().__init__()
        self.eps = norm.eps
        for name, tensor in norm.state_dict().items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B,C,H,W]``, normalised by the stored statistics."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def freeze_batch_norms(module: nn.Module) -> nn.Module:
    """Replace each batch norm inside ``module`` and return it."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child))
        else:
            freeze_batch_norms(child)
    return module

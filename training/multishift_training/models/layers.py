# SPDX-License-Identifier: Apache-2.0
"""Convolution blocks that the networks share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Depthwise(nn.Conv2d):
    """A bias-free convolution of each channel by itself that keeps the size.

    Dilated, it computes in float32 on a CPU in mixed precision, too: oneDNN 3.12, of PyTorch 2.13,
    leaves the weights' gradient in bfloat16 unwritten where rows are longer than some 28 pixels
    and channels come last, so that it is whatever was in memory.
    """

    def __init__(self, channels: int, kernel: int = 3, *, dilation: int = 1) -> None:
        """Make it of a ``kernel`` of odd size."""
        padding = dilation * (kernel // 2)
        super().__init__(
            channels, channels, kernel, 1, padding, dilation, groups=channels, bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[B,channels,h,w]`` of the same."""
        mixed = input.is_cpu and torch.is_autocast_enabled('cpu')
        if mixed and self.dilation != (1, 1) and self.weight.dtype == torch.float32:
            with exactly(input):
                return super().forward(in_full(input))
        return super().forward(input)


def conv_bn_relu(
    inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Return a bias-free convolution with batch norm and ReLU that keeps the size at stride 1."""
    padding = dilation * (kernel // 2)
    return _bn_relu(nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False))


def separable(inputs: int, outputs: int, *, dilation: int = 1) -> nn.Sequential:
    """Return a depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU."""
    return nn.Sequential(
        _bn_relu(Depthwise(inputs, dilation=dilation)), conv_bn_relu(inputs, outputs, kernel=1)
    )


def _bn_relu(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(
        convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)
    )


def in_full(x: Tensor) -> Tensor:
    """Return what mixed precision left in 16 bits in 32; what has more stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def exactly(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which mixed precision computes with ``x`` and the like in its type."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()  # an exported program has no place for contexts


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``x [B,C,h,w]`` at ``size``: bilinear, corner pixels on corner pixels."""
    return F.interpolate(x, size=size, mode='bilinear', align_corners=True)


def smoothed(values: Tensor, kernel: Tensor) -> Tensor:
    """Return ``values [B,h,w]`` convolved with ``kernel [n]`` along rows and columns.

    Images are mirrored at their edges.
    """
    padded = F.pad(values[:, None], [len(kernel) // 2] * 4, mode='reflect')
    by_rows = F.conv2d(padded, kernel.view(1, 1, -1, 1))
    return F.conv2d(by_rows, kernel.view(1, 1, 1, -1))[:, 0]

# SPDX-License-Identifier: Apache-2.0
"""Convolution blocks that the networks share."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from multishift_training.models.precision import exactly


class Depthwise(nn.Conv2d):
    """A bias-free convolution of each channel by itself that keeps the size."""

    def __init__(self, channels: int, kernel: int = 3, *, dilation: int = 1) -> None:
        """Make it of a ``kernel`` of odd size."""
        padding = dilation * (kernel // 2)
        super().__init__(
            channels, channels, kernel, 1, padding, dilation, groups=channels, bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[B,channels,h,w]`` of the same."""
        dilation = self.dilation[0]
        padding = dilation * (self.kernel_size[0] // 2)
        return convolve_depthwise(input, self.weight, padding=padding, dilation=dilation)


def convolve_depthwise(
    x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    """Return each channel of ``x [B,C,h,w]`` convolved with its own of ``weight [C,1,k,k]``.

    On a CPU in mixed precision it computes in float32, and rounds what comes out: there oneDNN
    3.12, of PyTorch 2.13, takes five times as long for most gradients in bfloat16, and leaves the
    weights' unwritten where channels come last and dilated rows are longer than some 28 pixels.
    """
    mixed = x.is_cpu and torch.is_autocast_enabled('cpu') and weight.dtype == torch.float32
    if mixed:
        with exactly(x):
            out = convolve_depthwise(
                x.float(), weight, stride=stride, padding=padding, dilation=dilation
            )
        return out.to(torch.get_autocast_dtype('cpu'))
    learns = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if x.is_cpu and learns and dilation > 1 and stride == 1:
        out = _Dilated.apply(x, weight, padding, dilation)  # type: ignore[no-untyped-call]
        return cast(Tensor, out)
    return F.conv2d(x, weight, None, stride, padding, dilation, groups=len(weight))


class _Dilated(torch.autograd.Function):
    """A dilated depthwise convolution whose input's gradient is one, too, of the kernel turned.

    It always is: but oneDNN 3.12 takes some twenty times as long for it by itself.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return F.conv2d(x, weight, None, 1, padding, dilation, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        padding, dilation, groups = ctx.padding, ctx.dilation, len(weight)
        of_input = of_weight = None
        with exactly(gradient):
            if ctx.needs_input_grad[0]:
                around = dilation * (weight.shape[-1] - 1) - padding
                turned = weight.flip(2, 3)
                of_input = F.conv2d(gradient, turned, None, 1, around, dilation, groups)
            if ctx.needs_input_grad[1]:
                of_weight = conv2d_weight(  # type: ignore[no-untyped-call]
                    x, weight.shape, gradient, 1, padding, dilation, groups
                )
        return of_input, of_weight, None, None


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


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``x [B,C,h,w]`` at ``size``: bilinear, corner pixels on corner pixels."""
    return F.interpolate(x, size=size, mode='bilinear', align_corners=True)


def gaussian(length: int, deviation: float, like: Tensor) -> Tensor:
    """Return the weights of a Gaussian window ``[length]``, whose sum is 1.

    Args:
        length: of the window.
        deviation: standard deviation, in places of the window.
        like: a tensor of the type and device that are wanted.
    """
    places = torch.arange(length, dtype=like.dtype, device=like.device) - (length - 1) / 2
    weights = torch.exp(-places.square() / (2 * deviation**2))
    return weights / weights.sum()


def smoothed(values: Tensor, kernel: Tensor) -> Tensor:
    """Return ``values [B,h,w]`` convolved with ``kernel [n]`` along rows and columns.

    Images are mirrored at their edges.
    """
    padded = F.pad(values[:, None], [len(kernel) // 2] * 4, mode='reflect')
    by_rows = F.conv2d(padded, kernel.view(1, 1, -1, 1))
    return F.conv2d(by_rows, kernel.view(1, 1, 1, -1))[:, 0]

# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions: gradients on a CPU, in mixed precision and where they are dilated."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_training.models.efficientnet_lite import SamePadded
from multishift_training.models.layers import Depthwise, convolve_depthwise

CHANNELS = 32
LAYERS = {
    'plain': lambda: Depthwise(CHANNELS),
    'strided': lambda: SamePadded(CHANNELS, CHANNELS, 5, 2, groups=CHANNELS),
    'dilated': lambda: Depthwise(CHANNELS, dilation=6),
    'wide and dilated': lambda: Depthwise(CHANNELS, 5, dilation=2),
}


@pytest.mark.parametrize('name', LAYERS)
def test_mixed_precision_hardly_changes_depthwise_gradients(name: str) -> None:
    layer = LAYERS[name]().to(memory_format=torch.channels_last)
    pixels = torch.randn(2, CHANNELS, 20, 36, generator=torch.Generator().manual_seed(0))
    image = pixels.to(memory_format=torch.channels_last).requires_grad_()

    def gradients(*, mixed: bool) -> list[Tensor]:
        with torch.autocast('cpu', torch.bfloat16, enabled=mixed):
            out = layer(image)
        assert out.dtype == (torch.bfloat16 if mixed else torch.float32)
        return list(torch.autograd.grad(out.float().square().sum(), [image, layer.weight]))

    for exact, found in zip(gradients(mixed=False), gradients(mixed=True), strict=True):
        torch.testing.assert_close(found, exact, rtol=0, atol=0.02 * float(exact.abs().max()))


@pytest.mark.parametrize(('kernel', 'padding', 'dilation'), [(3, 6, 6), (5, 4, 2), (3, 0, 2)])
def test_gradients_of_dilated_ones_are_those_of_autograd(
    kernel: int, padding: int, dilation: int
) -> None:
    random = torch.Generator().manual_seed(0)
    size = {'dtype': torch.float64, 'generator': random}
    x = torch.randn(2, 4, 9, 14, **size).requires_grad_()
    weight = torch.randn(4, 1, kernel, kernel, **size).requires_grad_()

    def ours(x: Tensor, weight: Tensor) -> Tensor:
        return convolve_depthwise(x, weight, padding=padding, dilation=dilation)

    def derivatives(out: Tensor) -> list[Tensor]:
        """Return those of first and of second order."""
        first = torch.autograd.grad(out.square().sum(), [x, weight], create_graph=True)
        of_both = torch.stack([each.square().sum() for each in first]).sum()
        return [*first, *torch.autograd.grad(of_both, [x, weight])]

    expected = F.conv2d(x, weight, None, 1, padding, dilation, groups=4)
    assert torch.equal(ours(x, weight), expected)
    for found, exact in zip(derivatives(ours(x, weight)), derivatives(expected), strict=True):
        torch.testing.assert_close(found, exact)

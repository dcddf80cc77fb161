# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multishift_training.models.layers import Depthwise


@pytest.mark.parametrize(('kernel', 'dilation'), [(3, 1), (3, 6), (5, 2)])
def test_mixed_precision_hardly_changes_a_depthwise_gradient(kernel: int, dilation: int) -> None:
    layer = Depthwise(32, kernel, dilation=dilation).to(memory_format=torch.channels_last)
    image = torch.randn(2, 32, 20, 36, generator=torch.Generator().manual_seed(0))
    image = image.to(memory_format=torch.channels_last)

    def gradient(*, mixed: bool) -> Tensor:
        layer.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=mixed):
            out = layer(image)
        out.float().square().sum().backward()
        assert layer.weight.grad is not None
        return layer.weight.grad.clone()

    exact = gradient(mixed=False)
    assert exact.shape == (32, 1, kernel, kernel)
    torch.testing.assert_close(
        gradient(mixed=True), exact, rtol=0, atol=0.02 * float(exact.abs().max())
    )

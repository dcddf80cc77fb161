# SPDX-License-Identifier: Apache-2.0
"""How large a network is, and how much it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from multishift_training import models
from multishift_training.models.prediction import SegmentationModel


class ModelSize(NamedTuple):
    """The size of a network.

    Attributes:
        parameters: that can be trained.
        flops: operations for an image; a multiply-add is two. Convolutions, matrix products and
            attention count, point-wise work does not.
    """

    parameters: int
    flops: int


class _ShapedSamples(TorchFunctionMode):
    """Gives samples of images their shape alone.

    Sampling is point-wise work, which does not count; without memory, torch takes each sampling
    apart into hundreds of steps, and Mask2Former samples 50 times or more.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not F.grid_sample:
            return func(*args, **(kwargs or {}))
        image, grid, *_ = args
        return image.new_empty(*image.shape[:2], *grid.shape[1:-1])


def measure(name: str, size: tuple[int, int]) -> tuple[SegmentationModel, ModelSize]:
    """Return a network without memory for its weights, and its size.

    Nothing is computed, so that it takes seconds at most on any machine.

    Args:
        name: of ``models.NAMES``, but for those whose structure is in a folder.
        size: rows and columns of the image.
    """
    with torch.device('meta'):
        # Some parameters of `transformers` are made where no device is asked for.
        model = models.create(name).to('meta').eval()
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        model.requires_grad_(False)
        # Attention as matrix products: the counter does not know the fused kernel of CPUs.
        counter = FlopCounterMode(display=False)
        with sdpa_kernel(SDPBackend.MATH), counter, _ShapedSamples():
            model(torch.empty(1, 3, *size))
    return model, ModelSize(parameters, counter.get_total_flops())

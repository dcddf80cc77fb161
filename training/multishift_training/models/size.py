# SPDX-License-Identifier: Apache-2.0
"""How large a network is, and how much it computes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
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
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, *size))
    return model, ModelSize(parameters, counter.get_total_flops())

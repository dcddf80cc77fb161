# SPDX-License-Identifier: Apache-2.0
"""The scale that networks take their images in."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class InputScale(NamedTuple):
    """What is taken off each colour, and what it is divided by; RGB, on the scale 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = InputScale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Normalize(nn.Module):
    """From RGB bytes to what networks take."""

    def __init__(self, input_scale: InputScale) -> None:
        """Hold the scale of a network."""
        super().__init__()
        mean, std = torch.tensor(input_scale.mean), torch.tensor(input_scale.std)
        self.register_buffer('scale', (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer('shift', (-mean / std).view(1, 3, 1, 1))
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, frames: Tensor) -> Tensor:
        """Return ``float32 [N,3,H,W]`` of ``frames uint8 [N,H,W,3]``."""
        # Cast, then transpose: TensorRT takes uint8 at the border only.
        return frames.float().permute(0, 3, 1, 2) * self.scale + self.shift

# SPDX-License-Identifier: Apache-2.0
"""The real-time backbone of `sample.yaml`: a narrow ResNet of output stride 16."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multishift_training.models.backbone import Backbone, DecoderConfig
from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.layers import conv_bn_relu


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., 2016, the basic block).

    Attributes:
        end_norm: of the sum, before its activation; none, unless a method puts one there.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        """Make a block; the shortcut is a 1x1 convolution where the shape changes."""
        super().__init__()
        self.first = conv_bn_relu(inputs, outputs, stride=stride, dilation=dilation)
        self.second = conv_bn_relu(outputs, outputs, dilation=dilation)[:2]
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = conv_bn_relu(inputs, outputs, kernel=1, stride=stride)[:2]
        self.end_norm: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B,outputs,H/stride,W/stride]``."""
        return torch.relu(self.end_norm(self.shortcut(x) + self.second(self.first(x))))


class CompactBackbone(Backbone):
    """Low-level feature at stride 4, high-level at 16, dilation in the last block; 0.9 M."""

    low_channels = 40
    high_channels = 112
    input_scale = IMAGENET
    decoder = DecoderConfig(
        rates=(3, 6, 9), channels=96, low_channels=32, separable=True, classifier_bias=False
    )

    def __init__(self) -> None:
        """Make the backbone."""
        super().__init__()
        self.stem = nn.Sequential(
            conv_bn_relu(3, 24, stride=2), conv_bn_relu(24, 40, stride=2), ResidualBlock(40, 40)
        )
        self.trunk = nn.Sequential(
            ResidualBlock(40, 80, stride=2),
            ResidualBlock(80, 80),
            ResidualBlock(80, 112, stride=2),
            ResidualBlock(112, 112),
            ResidualBlock(112, 112, dilation=2),
        )

    def enter(self, image: Tensor) -> Tensor:
        """Run the strided convolutions."""
        entered: Tensor = self.stem[1](self.stem[0](image))
        return entered

    def shallow(self, entered: Tensor) -> Tensor:
        """Run the first block."""
        low: Tensor = self.stem[2](entered)
        return low

    def deep(self, low: Tensor) -> Tensor:
        """Run the other blocks."""
        high: Tensor = self.trunk(low)
        return high

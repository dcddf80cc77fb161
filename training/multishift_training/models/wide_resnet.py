# SPDX-License-Identifier: Apache-2.0
"""WideResNet38 (Wu et al., "Wider or deeper", 2019), dilated: MultiShiftSeg's backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models import deeplab_layouts
from multishift_training.models.backbone import Backbone, DecoderConfig
from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.layout import Layout


class _Stage(NamedTuple):
    blocks: int
    channels: tuple[int, ...]
    stride: int = 1
    dilation: int = 1
    dropout: float = 0.0


_STAGES = (
    _Stage(3, (128, 128)),
    _Stage(3, (256, 256)),
    _Stage(6, (512, 512), stride=2),
    _Stage(3, (512, 1024), dilation=2),
    _Stage(1, (512, 1024, 2048), dilation=4, dropout=0.3),
    _Stage(1, (1024, 2048, 4096), dilation=4, dropout=0.5),
)


class PreActivationBlock(nn.Module):
    """Convolutions after batch norm and ReLU, with a shortcut that nothing follows.

    Two widths make two 3x3 convolutions, three a bottleneck with dropout of whole channels before
    its last (He et al., "Identity mappings in deep residual networks", 2016).
    """

    def __init__(
        self,
        inputs: int,
        channels: tuple[int, ...],
        *,
        stride: int = 1,
        dilation: int = 1,
        dropout: float = 0.0,
    ) -> None:
        """Make a block; the shortcut is a 1x1 convolution where the shape changes."""
        super().__init__()
        outputs = channels[-1]
        self.activation = nn.Sequential(*_bn_relu(inputs))
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        kernels = (3, 3) if len(channels) == 2 else (1, 3, 1)
        layers: list[nn.Module] = []
        for position, (kernel, width) in enumerate(zip(kernels, channels, strict=True)):
            if position > 0:
                layers += _bn_relu(inputs)
                stride = 1
            if position == 2:
                layers.append(nn.Dropout2d(dropout))
            reach = dilation if kernel == 3 else 1
            padding = kernel // 2 * reach
            layers.append(nn.Conv2d(inputs, width, kernel, stride, padding, reach, bias=False))
            inputs = width
        self.residual = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B,channels[-1],H/stride,W/stride]``."""
        # The ReLU works in place on what batch norm made, so that x is whole for the shortcut.
        active = self.activation(x)
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.residual(active)
        return out.add_(shortcut)


class WideResNet38(Backbone):
    """Low-level feature at stride 2, high-level at 8, neither normalised nor activated; 105 M."""

    low_channels = 128
    high_channels = 4096
    input_scale = IMAGENET
    decoder = DecoderConfig(
        rates=(12, 24, 36), normalised_projections=False, classifier_bias=False
    )

    def __init__(self) -> None:
        """Make the backbone."""
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        inputs, stages = 64, []
        for stage in _STAGES:
            stages.append(_blocks(inputs, stage))
            inputs = stage.channels[-1]
        self.stages = nn.ModuleList(stages)

    def enter(self, image: Tensor) -> Tensor:
        """Run the first convolution, and pool."""
        return _pool(self.stem(image))

    def shallow(self, entered: Tensor) -> Tensor:
        """Run the first stage."""
        low: Tensor = self.stages[0](entered)
        return low

    def deep(self, low: Tensor) -> Tensor:
        """Pool, and run the other stages."""
        high = _pool(low)
        for stage in self.stages[1:]:
            high = stage(high)
        return high

    def layouts(self) -> Sequence[Layout]:
        """Return the layouts of MultiShiftSeg's and NVIDIA's files."""
        return (deeplab_layouts.wide_resnet38(), deeplab_layouts.imagenet_wide_resnet38())


def _blocks(inputs: int, stage: _Stage) -> nn.Sequential:
    def block(inputs: int, stride: int) -> PreActivationBlock:
        return PreActivationBlock(
            inputs, stage.channels, stride=stride, dilation=stage.dilation, dropout=stage.dropout
        )

    more = [block(stage.channels[-1], 1) for _ in range(stage.blocks - 1)]
    return nn.Sequential(block(inputs, stage.stride), *more)


def _bn_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2, padding=1)

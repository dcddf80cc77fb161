# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 and ResNet-101 (He et al., 2016) of output stride 16."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import ResNetBackbone, ResNetConfig

from multishift_training.models import deeplab_layouts
from multishift_training.models.backbone import Backbone, DecoderConfig
from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.layers import conv_bn_relu
from multishift_training.models.layout import Layout

_BLOCKS = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}


class ResNet(Backbone):
    """Low-level feature at stride 4, high-level at 16: the last stage dilates by 2 instead.

    Strides are on the 3x3 convolutions. RobustNet's ResNet-101 begins with three 3x3 convolutions
    in place of the usual 7x7; see `set_stem`.
    """

    low_channels = 256
    high_channels = 2048
    input_scale = IMAGENET
    decoder = DecoderConfig()

    def __init__(self, depth: Literal[50, 101], *, deep_stem: bool = False) -> None:
        """Make the backbone with one 7x7 or, as ``deep_stem``, three 3x3 convolutions first."""
        super().__init__()
        self.depth = depth
        self.stem = _stem(deep=deep_stem)
        self.stages = _stages(128 if deep_stem else 64, _BLOCKS[depth])

    def enter(self, image: Tensor) -> Tensor:
        """Run the stem."""
        entered: Tensor = self.stem(image)
        return entered

    def shallow(self, entered: Tensor) -> Tensor:
        """Run the first stage."""
        low: Tensor = self.stages[0](entered)
        return low

    def deep(self, low: Tensor) -> Tensor:
        """Run the other stages."""
        for stage in self.stages[1:]:
            low = stage(low)
        return low

    def set_stem(self, deep: bool) -> Callable[[], None]:
        """Change the stem, and the first stage with it, to newly initialised ones.

        Returns:
            What puts the present ones back.
        """
        stem, stage = self.stem, self.stages[0]
        weight = next(stem.parameters())
        if deep != (weight.shape[-1] == 3):
            # The first stages of ResNet-50 and ResNet-101 are the same.
            fresh = _like(ResNet(50, deep_stem=deep), weight).train(self.training)
            self.stem, self.stages[0] = fresh.stem, fresh.stages[0]

        def undo() -> None:
            self.stem, self.stages[0] = stem, stage

        return undo

    def layouts(self) -> Sequence[Layout]:
        """Return the layouts of RobustNet's files and of ImageNet classifiers."""
        if self.depth == 50:
            return (
                deeplab_layouts.robustnet(),
                deeplab_layouts.imagenet_resnet(),
                deeplab_layouts.imagenet_resnet_hugging_face(),
            )
        return deeplab_layouts.resnet101(self.set_stem)


def _stem(*, deep: bool) -> nn.Sequential:
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    if deep:
        return nn.Sequential(
            *conv_bn_relu(3, 64, stride=2), *conv_bn_relu(64, 64), *conv_bn_relu(64, 128), pool
        )
    return nn.Sequential(*conv_bn_relu(3, 64, kernel=7, stride=2), pool)


def _stages(inputs: int, blocks: list[int]) -> nn.ModuleList:
    """Return transformers' stages, the last one dilated."""
    config = ResNetConfig(embedding_size=inputs, depths=blocks)
    stages: nn.ModuleList = ResNetBackbone(config).encoder.stages
    for module in stages.modules():
        # Activations follow a batch norm or a sum that nothing else reads.
        if isinstance(module, nn.ReLU):
            module.inplace = True
    for module in stages[-1].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (2, 2)
    return stages


def _like(module: ResNet, weight: Tensor) -> ResNet:
    """Return the module with the device, type and memory format of a weight."""
    channels_last = weight.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    module = module.to(weight)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)
    return module

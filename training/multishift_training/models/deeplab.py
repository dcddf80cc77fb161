# SPDX-License-Identifier: Apache-2.0
"""DeepLabV3+ (Chen et al., ECCV 2018) with an uncertainty head, over any backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from multishift_training.models.backbone import Backbone, DecoderConfig
from multishift_training.models.heads import EnergyHead
from multishift_training.models.layers import conv_bn_relu, separable, upsample
from multishift_training.models.layout import Layout
from multishift_training.models.prediction import Prediction, SegmentationModel


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: context at several distances, and of the whole image."""

    def __init__(self, inputs: int, config: DecoderConfig) -> None:
        """Make a pyramid of one 1x1, one 3x3 per rate, and one image branch."""
        super().__init__()
        conv = separable if config.separable else conv_bn_relu
        self.branches = nn.ModuleList(
            [conv_bn_relu(inputs, config.channels, kernel=1)]
            + [conv(inputs, config.channels, dilation=rate) for rate in config.rates]
        )
        self.image = conv_bn_relu(inputs, config.channels, kernel=1)
        joined = (len(config.rates) + 2) * config.channels
        self.project = _projection(joined, config.channels, config)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B,channels,h,w]`` of ``x [B,inputs,h,w]``."""
        projected: Tensor = self.project(self._joined(x))
        return projected

    def _joined(self, x: Tensor) -> Tensor:
        context = self.image(x.mean((2, 3), keepdim=True))
        branches = [branch(x) for branch in self.branches]
        # A sum and no expanded view, which has no memory format of its own: beside one,
        # concatenation would fall back from channels-last to NCHW.
        return torch.cat([context + torch.zeros_like(branches[0]), *branches], 1)


class DeepLabV3Plus(SegmentationModel):
    """Backbone, pyramid, a decoder at the low-level feature's size, classifier, uncertainty head.

    Every upsampling is bilinear with ``align_corners``; the score is computed before it.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        """Make the network with the decoder that ``backbone`` was published with."""
        super().__init__()
        config = backbone.decoder
        self.input_scale = backbone.input_scale
        self.imagenet_package = backbone.imagenet_package
        conv = separable if config.separable else conv_bn_relu
        self.backbone = backbone
        self.aspp = Aspp(backbone.high_channels, config)
        self.low = _projection(backbone.low_channels, config.low_channels, config)
        self.decoder = nn.Sequential(
            conv(config.low_channels + config.channels, config.channels),
            conv(config.channels, config.channels),
        )
        bias = config.classifier_bias
        self.classifier = nn.Conv2d(config.channels, num_classes, 1, bias=bias)
        self.uncertainty = EnergyHead(config.channels, num_classes, bias=bias)
        for part in (self.aspp, self.low, self.decoder, self.classifier):
            part.apply(initialise)

    @property
    def early(self) -> nn.Module:
        """What reads the low-level feature."""
        return self.backbone.low_tap

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        """Return logits and score at ``size``, and the decoder's feature at its stride."""
        rows, columns = size or image.shape[2:]
        feature = self.decoder(self._joined(image))
        score = self.uncertainty(feature).unsqueeze(1)
        logits = self.classifier(feature)
        return Prediction(
            upsample(logits, (rows, columns)),
            upsample(score, (rows, columns)).squeeze(1),
            feature,
            coarse_logits=logits,
        )

    def _joined(self, image: Tensor) -> Tensor:
        # Apart from the decoder, so that none of these is alive when the decoder, where memory
        # peaks, runs.
        low, high = self.backbone(image)
        context = upsample(self.aspp(high), low.shape[2:])
        return torch.cat([self.low(low), context], 1)

    def layouts(self) -> Sequence[Layout]:
        """Return the layouts of published checkpoints with the same backbone."""
        return self.backbone.layouts()


def _projection(inputs: int, outputs: int, config: DecoderConfig) -> nn.Module:
    if config.normalised_projections:
        return conv_bn_relu(inputs, outputs, kernel=1)
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def initialise(module: nn.Module) -> None:
    """He et al. (2015), for training from a classifier's backbone."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
        if module.bias is not None:
            nn.init.zeros_(module.bias)

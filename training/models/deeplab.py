"""DeepLabV3+ (Chen et al., ECCV 2018) with an uncertainty head, over any backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models.compact import CompactBackbone
from multishift_training.models.head import EnergyHead
from multishift_training.models.layers import conv_bn_relu, separable
from multishift_training.models.prediction import Prediction, SegmentationModel


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: context at several distances, and of the whole image."""

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...]) -> None:
        """Make a pyramid of one 1x1, one separable 3x3 per rate, and one image branch."""
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_bn_relu(inputs, outputs, kernel=1)]
            + [separable(inputs, outputs, dilation=rate) for rate in rates]
        )
        # No batch norm: one value per image and channel has no useful batch statistics.
        self.image = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.ReLU(inplace=True))
        self.project = conv_bn_relu((len(rates) + 2) * outputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B,outputs,h,w]``."""
        context = self.image(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        projected: Tensor = self.project(
            torch.cat([branch(x) for branch in self.branches] + [context], 1)
        )
        return projected


class DeepLabV3Plus(SegmentationModel):
    """Backbone, ASPP, and a decoder at a quarter of the input size; all heads without bias."""

    def __init__(
        self, backbone: CompactBackbone, num_classes: int, *, rates: tuple[int, ...] = (3, 6, 9)
    ) -> None:
        """Make the network; ``rates`` are ASPP's dilations at stride 16."""
        super().__init__()
        self.backbone = backbone
        self.aspp = Aspp(backbone.high_channels, 96, rates)
        self.low = conv_bn_relu(backbone.low_channels, 32, kernel=1)
        self.decoder = nn.Sequential(separable(96 + 32, 128), separable(128, 96))
        self.classifier = nn.Conv2d(96, num_classes, 1, bias=False)
        self.uncertainty = EnergyHead(96, num_classes)

    def forward(self, image: Tensor) -> Prediction:
        """Return logits and score at a quarter of the input size (rounded up)."""
        low, high = self.backbone(image)
        context = F.interpolate(
            self.aspp(high), size=low.shape[2:], mode='bilinear', align_corners=False
        )
        feature = self.decoder(torch.cat([self.low(low), context], 1))
        return Prediction(self.classifier(feature), self.uncertainty(feature))

    def init_uncertainty_from_classifier(self) -> None:
        """Copy the classifier's weights into the uncertainty head."""
        self.uncertainty.init_from(self.classifier)

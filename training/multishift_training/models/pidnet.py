# SPDX-License-Identifier: Apache-2.0
"""PIDNet (Xu et al., CVPR 2023), a real-time network, with an uncertainty head.

Three branches, named for a PID controller's terms: P keeps detail at an eighth of the image, I
gathers context down to a 64th, and D finds the boundaries by which the two are mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models import pidnet_layouts
from multishift_training.models.heads import EnergyHead
from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.layers import upsample
from multishift_training.models.layout import Layout
from multishift_training.models.prediction import Prediction, SegmentationModel


class Variant(NamedTuple):
    """What differs between S, M and L (Xu et al., table 1 and section 4.3).

    Attributes:
        channels: of the first layers; the other widths are multiples of it.
        shallow: blocks of each stage down to an eighth of the image, in all branches.
        deep: blocks of each stage of the I branch at a 16th and a 32nd.
        context: channels of each scale of the pooling pyramid.
        width: channels of the feature that the heads read.
        light: whether pyramid, boundary branch and fusion are those made for speed.
    """

    channels: int
    shallow: int
    deep: int
    context: int
    width: int
    light: bool


VARIANTS = {
    'pidnet_s': Variant(32, 2, 3, context=96, width=128, light=True),
    'pidnet_m': Variant(64, 2, 3, context=96, width=128, light=True),
    'pidnet_l': Variant(64, 3, 4, context=112, width=256, light=False),
}

# Windows and strides of the pyramid's average pooling.
_POOLS = ((5, 2), (9, 4), (17, 8))


class Residual(nn.Module):
    """A body of convolutions beside a shortcut."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Module, *, activate: bool) -> None:
        """Make a block that ends in a ReLU, or leaves that to what reads it."""
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of body and shortcut."""
        total: Tensor = self.body(x) + self.shortcut(x)
        return F.relu(total) if self.activate else total


class Pyramid(nn.Module):
    """Context of five scales, from a pixel's own to the whole map's, added to the map.

    Each of DAPPM's scales builds on the next finer one (Hong et al., 2021); in PAPPM, made for
    speed, all build on the finest at once (Xu et al., section 3.3).
    """

    def __init__(self, inputs: int, channels: int, outputs: int, *, parallel: bool) -> None:
        """Make PAPPM where it is to be parallel, else DAPPM; ``channels`` for each scale."""
        super().__init__()
        self.parallel = parallel
        self.scales = nn.ModuleList(_bn_relu_conv(inputs, channels) for _ in range(5))
        if parallel:
            self.mix = _bn_relu_conv(4 * channels, 4 * channels, kernel=3, groups=4)
        else:
            self.mixes = nn.ModuleList(
                _bn_relu_conv(channels, channels, kernel=3) for _ in range(4)
            )
        self.project = _bn_relu_conv(5 * channels, outputs)
        self.shortcut = _bn_relu_conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B,outputs,h,w]`` of ``x [B,inputs,h,w]``."""
        scales = [self.scales[0](x)]
        for scale, pooled in zip(self.scales[1:], _pooled(x), strict=True):
            scales.append(_resize(scale(pooled), x))
        context = self._joined_at_once(scales) if self.parallel else self._joined_in_turn(scales)
        total: Tensor = self.project(context) + self.shortcut(x)
        return total

    def _joined_at_once(self, scales: Sequence[Tensor]) -> Tensor:
        finest = scales[0]
        return torch.cat(
            [finest, self.mix(torch.cat([scale + finest for scale in scales[1:]], 1))], 1
        )

    def _joined_in_turn(self, scales: Sequence[Tensor]) -> Tensor:
        joined = [scales[0]]
        for mix, scale in zip(self.mixes, scales[1:], strict=True):
            joined.append(mix(scale + joined[-1]))
        return torch.cat(joined, 1)


class Attention(nn.Module):
    """Takes into the P branch what the I branch is sure of, pixel by pixel (Pag, section 3.2)."""

    def __init__(self, channels: int, inner: int) -> None:
        """Make one that compares ``inner`` channels of both."""
        super().__init__()
        self.detail = _conv_bn(channels, inner, kernel=1)
        self.context = _conv_bn(channels, inner, kernel=1)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """Return detail mixed with the enlarged context; at the size of ``detail``."""
        compared = self.detail(detail) * _resize(self.context(context), detail)
        trust = torch.sigmoid(compared.sum(1, keepdim=True))
        return (1 - trust) * detail + trust * _resize(context, detail)


class Fusion(nn.Module):
    """Mixes detail at boundaries and context elsewhere (Bag, section 3.4)."""

    def __init__(self, channels: int) -> None:
        """Make PIDNet-L's."""
        super().__init__()
        self.mix = _bn_relu_conv(channels, channels, kernel=3)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        """Return the mix of three maps ``[B,channels,h,w]``."""
        edge = torch.sigmoid(boundary)
        mixed: Tensor = self.mix(edge * detail + (1 - edge) * context)
        return mixed


class LightFusion(nn.Module):
    """`Fusion` with two 1x1 convolutions in place of one 3x3 (Light-Bag, section 3.4)."""

    def __init__(self, channels: int) -> None:
        """Make that of PIDNet-S and M."""
        super().__init__()
        self.detail = _conv_bn(channels, channels, kernel=1)
        self.context = _conv_bn(channels, channels, kernel=1)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        """Return the mix of three maps ``[B,channels,h,w]``."""
        edge = torch.sigmoid(boundary)
        smooth: Tensor = self.detail((1 - edge) * context + detail)
        sharp: Tensor = self.context(context + edge * detail)
        return smooth + sharp


class Backbone(nn.Module):
    """The three branches, and their fusion at an eighth of the image, rounded up."""

    def __init__(self, variant: Variant) -> None:
        """Make the branches of a variant; the fused map has four times its channels."""
        super().__init__()
        c, m, n = variant.channels, variant.shallow, variant.deep
        self.stem = nn.Sequential(*_stem_layer(3, c), *_stem_layer(c, c))
        self.entry = nn.ModuleList([_stage(c, c, m), _stage(c, 2 * c, m, stride=2)])
        self.context = nn.ModuleList(
            [_stage(2 * c, 4 * c, n, stride=2), _stage(4 * c, 8 * c, n, stride=2)]
        )
        self.deepest = nn.Sequential(
            _bottleneck(8 * c, 8 * c, stride=2), _bottleneck(16 * c, 8 * c)
        )
        self.pyramid = Pyramid(16 * c, variant.context, 4 * c, parallel=variant.light)
        self.detail = nn.ModuleList(
            [_stage(2 * c, 2 * c, m), _stage(2 * c, 2 * c, m), _bottleneck(2 * c, 2 * c)]
        )
        self.compress = nn.ModuleList(_conv_bn(k * c, 2 * c, kernel=1) for k in (4, 8))
        self.attention = nn.ModuleList(Attention(2 * c, c) for _ in range(2))
        if variant.light:
            boundary = [_basic(2 * c, c, activate=False), _bottleneck(c, c)]
        else:
            boundary = [_basic(2 * c, 2 * c, activate=False) for _ in range(2)]
        self.boundary = nn.ModuleList([*boundary, _bottleneck(2 * c, 2 * c)])
        first = c if variant.light else 2 * c
        self.contrast = nn.ModuleList([_conv_bn(4 * c, first), _conv_bn(8 * c, 2 * c)])
        self.fusion = (LightFusion if variant.light else Fusion)(4 * c)

    def forward(self, image: Tensor) -> Tensor:
        """Return the fused map of ``image [B,3,H,W]``."""
        x = F.relu(self.entry[0](self.stem(image)))
        x = F.relu(self.entry[1](x))
        detail, boundary = self.detail[0](x), self.boundary[0](x)
        for i in range(2):
            x = F.relu(self.context[i](x))
            detail = self.attention[i](detail, self.compress[i](x))
            boundary = boundary + _resize(self.contrast[i](x), boundary)
            detail = self.detail[i + 1](F.relu(detail))
            boundary = self.boundary[i + 1](F.relu(boundary))
        context = _resize(self.pyramid(self.deepest(x)), detail)
        fused: Tensor = self.fusion(detail, context, boundary)
        return fused


class PidNet(SegmentationModel):
    """Three branches, a head at an eighth of the image, two 1x1 convolutions with bias on it.

    The auxiliary heads of the P and D branches, which only the published losses read, are no part
    of it.
    """

    input_scale = IMAGENET

    def __init__(self, variant: Variant, num_classes: int = 19) -> None:
        """Make a randomly initialised network."""
        super().__init__()
        self._light = variant.light
        self.backbone = Backbone(variant)
        self.decoder = nn.Sequential(
            *_bn_relu_conv(4 * variant.channels, variant.width, kernel=3),
            nn.BatchNorm2d(variant.width),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Conv2d(variant.width, num_classes, 1)
        self.uncertainty = EnergyHead(variant.width, num_classes, bias=True)
        self.apply(_initialise)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        """Return logits and score at ``size``, and the feature at an eighth of the image.

        Upsampling of both is bilinear with ``align_corners``, as the published code evaluates;
        the score is computed before it.
        """
        rows, columns = size or image.shape[2:]
        feature = self.decoder(self.backbone(image))
        score = self.uncertainty(feature).unsqueeze(1)
        logits = self.classifier(feature)
        return Prediction(
            upsample(logits, (rows, columns)),
            upsample(score, (rows, columns)).squeeze(1),
            feature,
            coarse_logits=logits,
        )

    def layouts(self) -> Sequence[Layout]:
        """Return the layout of the released files, and that of the public network's own state."""
        return pidnet_layouts.layouts(light=self._light)


def _conv_bn(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def _bn_relu_conv(inputs: int, outputs: int, kernel: int = 1, *, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
    )


def _stem_layer(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a convolution of stride 2, which has a bias as published, batch norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return _conv_bn(inputs, outputs, kernel=1, stride=stride)


def _basic(inputs: int, outputs: int, *, stride: int = 1, activate: bool) -> Residual:
    """Return two 3x3 convolutions beside a shortcut."""
    body = nn.Sequential(
        *_conv_bn(inputs, outputs, stride=stride),
        nn.ReLU(inplace=True),
        *_conv_bn(outputs, outputs),
    )
    return Residual(body, _shortcut(inputs, outputs, stride), activate=activate)


def _bottleneck(inputs: int, inner: int, *, stride: int = 1) -> Residual:
    """Return a block of ``2 * inner`` channels, without ReLU at its end even inside a stage."""
    body = nn.Sequential(
        *_conv_bn(inputs, inner, kernel=1),
        nn.ReLU(inplace=True),
        *_conv_bn(inner, inner, stride=stride),
        nn.ReLU(inplace=True),
        *_conv_bn(inner, 2 * inner, kernel=1),
    )
    return Residual(body, _shortcut(inputs, 2 * inner, stride), activate=False)


def _stage(inputs: int, outputs: int, blocks: int, *, stride: int = 1) -> nn.Sequential:
    """Return basic blocks, of which the last leaves its ReLU to what reads it."""
    first = _basic(inputs, outputs, stride=stride, activate=blocks > 1)
    others = [_basic(outputs, outputs, activate=i < blocks - 1) for i in range(1, blocks)]
    return nn.Sequential(first, *others)


def _pooled(x: Tensor) -> list[Tensor]:
    windows = [F.avg_pool2d(x, size, stride, size // 2) for size, stride in _POOLS]
    return [*windows, x.mean((2, 3), keepdim=True)]


def _resize(x: Tensor, like: Tensor) -> Tensor:
    """Return ``x`` at the rows and columns of another map: bilinear, edges on edges."""
    return F.interpolate(x, like.shape[2:], mode='bilinear', align_corners=False)


def _initialise(module: nn.Module) -> None:
    """He et al. (2015) with fan-out, as published."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

# SPDX-License-Identifier: Apache-2.0
"""SegFormer (Xie et al., NeurIPS 2021) with an uncertainty head on the fused decoder feature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format
from transformers import SegformerConfig, SegformerModel

from multishift_perception.errors import MultishiftError
from multishift_training.models import segformer_layouts
from multishift_training.models.heads import ClassifierHead, EnergyHead
from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.layout import Layout
from multishift_training.models.prediction import Prediction, SegmentationModel
from multishift_training.models.segformer_layouts import Form

# Transformers takes 1e-5 for every layer norm whatever its configuration says, MMSegmentation
# 1e-6.
_NORM_EPS = {Form.HUGGING_FACE: 1e-5, Form.MMSEGMENTATION: 1e-6}
# Below it, the first stage's map is smaller than the 8x8 cells its attention is reduced by.
MIN_SIDE = 29


class Variant(NamedTuple):
    """What differs between b0 and b5 (Xie et al., table 6).

    Attributes:
        depths: blocks per stage of the encoder.
        channels: of the encoder's four levels.
        width: channels of the decoder as NVIDIA published it; MMSegmentation's has 256 always.
    """

    depths: tuple[int, ...]
    channels: tuple[int, ...]
    width: int


_WIDE = (64, 128, 320, 512)
VARIANTS = {
    'segformer_b0': Variant((2, 2, 2, 2), (32, 64, 160, 256), 256),
    'segformer_b1': Variant((2, 2, 2, 2), _WIDE, 256),
    'segformer_b2': Variant((3, 4, 6, 3), _WIDE, 768),
    'segformer_b3': Variant((3, 4, 18, 3), _WIDE, 768),
    'segformer_b4': Variant((3, 8, 27, 3), _WIDE, 768),
    'segformer_b5': Variant((3, 6, 40, 3), _WIDE, 768),
}


class LinearLevel(nn.Module):
    """A level's share of NVIDIA's and Hugging Face's decoder: projection and mix, both linear."""

    def __init__(self, channels: int, width: int) -> None:
        """Make the share of a level of ``channels`` in a decoder of ``width``."""
        super().__init__()
        self.project = nn.Linear(channels, width)
        self.fuse = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, level: Tensor) -> Tensor:
        """Return ``[B,width,h,w]`` of ``level [B,channels,h,w]``."""
        # Two linear maps in a row are one, of far fewer products per pixel.
        fuse = self.fuse.weight.flatten(1)
        weight = fuse @ self.project.weight
        # Channels-last by its strides: in a network of that format the heads then convert nothing.
        weight = weight[:, None, None].permute(0, 3, 1, 2)
        return F.conv2d(level, weight, fuse @ self.project.bias)


class NormLevel(nn.Module):
    """A level's share of MMSegmentation's decoder: batch norm and ReLU before the mix."""

    def __init__(self, channels: int, width: int) -> None:
        """Make the share of a level of ``channels`` in a decoder of ``width``."""
        super().__init__()
        self.project = nn.Conv2d(channels, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.fuse = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, level: Tensor) -> Tensor:
        """Return ``[B,width,h,w]`` of ``level [B,channels,h,w]``."""
        projected = F.relu(self.norm(self.project(level)), inplace=True)
        mixed: Tensor = self.fuse(projected)
        return mixed


class Decoder(nn.Module):
    """The all-MLP decoder (Xie et al., section 3.2).

    As published, the projected levels are upsampled and concatenated, and a 1x1 convolution mixes
    them. Upsampling is linear and treats every channel alike, so it may as well come after that
    convolution: here each level meets its own slice of the weights at its own size, and the
    upsampled results are added. The sum is the same, without the concatenated map and most of
    the products.
    """

    def __init__(
        self, level: type[LinearLevel | NormLevel], channels: Sequence[int], width: int
    ) -> None:
        """Make a decoder.

        Args:
            level: the published form.
            channels: of each level, the finest first.
            width: channels of the feature.
        """
        super().__init__()
        self.levels = nn.ModuleList(level(c, width) for c in channels)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(0.1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return the feature ``[B,width,h,w]`` at the size of the first of ``levels``."""
        shares = [share(level) for share, level in zip(self.levels, levels, strict=True)]
        total = shares[0]
        for share in shares[1:]:
            total = total + _upsample(share, total.shape[2:])
        feature: Tensor = self.dropout(F.relu(self.norm(total), inplace=True))
        return feature


class SegFormer(SegmentationModel):
    """Mix Transformer, all-MLP decoder at a quarter of the input size, two heads with bias.

    Two forms of it were published under one name (`Form`). A new network has Hugging Face's; the
    layout of a checkpoint of the other form changes it.
    """

    input_scale = IMAGENET

    def __init__(self, variant: Variant, num_classes: int = 19) -> None:
        """Make a randomly initialised network."""
        super().__init__()
        self._variant = variant
        config = SegformerConfig(depths=variant.depths, hidden_sizes=variant.channels)
        self.backbone = SegformerModel(config)
        # Tokens are channels-last: so are the convolutions over them, which then copy nothing.
        convert_conv2d_weight_memory_format(self.backbone, torch.channels_last)
        self._take_form(Form.HUGGING_FACE, num_classes)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        """Run the network.

        Args:
            image: ``float32 [B,3,H,W]``, ImageNet-normalised RGB, H and W at least `MIN_SIDE`.
            size: rows and columns of ``logits`` and ``score``; the image's own when left out.

        Returns:
            The feature is at a quarter of the image, rounded up. Heads act on it; what they say
            is upsampled bilinearly with ``align_corners=False``, as published.

        Raises:
            MultishiftError: the image is too small.
        """
        if min(image.shape[2:]) < MIN_SIDE:
            raise MultishiftError(
                f'image of {image.shape[2]}x{image.shape[3]} is too small for SegFormer: '
                f'give at least {MIN_SIDE}x{MIN_SIDE}'
            )
        size = size or (image.shape[2], image.shape[3])
        feature = self.decoder(self._levels(image))
        logits = self.classifier(feature)
        score = _upsample(self.uncertainty(feature)[:, None], size)[:, 0]
        return Prediction(_upsample(logits, size), score, feature, coarse_logits=logits)

    def enlarge(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """See `SegmentationModel`; edges on edges, as published."""
        return _upsample(maps, size)

    @property
    def form(self) -> Form:
        """Which published form the network has now."""
        return self._form

    def layouts(self) -> Sequence[Layout]:
        """Return Hugging Face's, MMSegmentation's and our own; each adapts to its form."""
        return segformer_layouts.layouts(self._adapt_to)

    def _levels(self, image: Tensor) -> list[Tensor]:
        levels = [image]
        for stage in self.backbone.stages:
            levels.append(stage(levels[-1]))
        return levels[1:]

    def _take_form(self, form: Form, classes: int) -> None:
        """Make decoder and heads anew, for so many classes, and set what else the form says."""
        width = self._variant.width if form is Form.HUGGING_FACE else 256
        level = LinearLevel if form is Form.HUGGING_FACE else NormLevel
        self._form = form
        self.decoder = Decoder(level, self._variant.channels, width)
        self.classifier = nn.Conv2d(width, classes, 1)
        self.uncertainty = EnergyHead(width, classes, bias=True)
        _set_norm_eps(self.backbone, _NORM_EPS[form])

    def _adapt_to(self, form: Form) -> Callable[[], None]:
        """Change the form where it is another, and return what changes it back."""
        if form is self._form:
            return lambda: None
        before, parts = self._form, (self.decoder, self.classifier, self.uncertainty)
        weight, head = self.classifier.weight, self.uncertainty
        self._take_form(form, len(weight))
        if isinstance(head, ClassifierHead):  # a method's, for good
            self.uncertainty = head
        for part in (self.decoder, self.classifier, self.uncertainty):
            part.to(weight.device, weight.dtype).train(self.training)

        def undo() -> None:
            self._form = before
            self.decoder, self.classifier, self.uncertainty = parts
            _set_norm_eps(self.backbone, _NORM_EPS[before])

        return undo


def _upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=list(size), mode='bilinear', align_corners=False)


def _set_norm_eps(backbone: nn.Module, eps: float) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps

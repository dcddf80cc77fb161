# SPDX-License-Identifier: Apache-2.0
"""Instance norms in backbones: IBN-Net (Pan et al., ECCV 2018), and where ISW whitens."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from multishift_training.models.backbone import Backbone
from multishift_training.models.compact import CompactBackbone, ResidualBlock
from multishift_training.models.efficientnet_lite import EfficientNetLite, MBConv
from multishift_training.models.noted import Noted
from multishift_training.models.precision import in_full
from multishift_training.models.resnet import ResNet

# Whose places are known.
BACKBONES = (CompactBackbone, EfficientNetLite, ResNet)


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm by means, which every target can compute, in 32 bits.

    Attributes:
        noted: of the last forward pass, what it returned; None where nobody asks for it.
    """

    def __init__(self, channels: int, *, affine: bool, noted: bool = False) -> None:
        """Make a norm, with or without weights, that notes what it returns or does not."""
        super().__init__(channels, affine=affine)
        self.noted = Noted() if noted else None

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[B,C,h,w]``, of mean 0 and variance 1 in each channel of an image."""
        full = in_full(input)
        centred = full - full.mean((2, 3), keepdim=True)
        variance = centred.square().mean((2, 3), keepdim=True)
        out = centred * (variance + self.eps).rsqrt()
        if self.affine:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        out = out.to(input.dtype)
        if self.noted is not None:
            self.noted.put(out)
        return out


class HalfInstanceNorm(nn.Module):
    """IBN-a: instance norm of the first half of the channels, batch norm of the others."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        """Make one in the place of a batch norm, whose weights and statistics it takes over."""
        super().__init__()
        channels = norm.num_features
        self._half = channels // 2
        self.instance = InstanceNorm(self._half, affine=True)
        self.batch = nn.BatchNorm2d(channels - self._half, norm.eps, norm.momentum)
        _take_over(self.instance, norm, slice(self._half))
        _take_over(self.batch, norm, slice(self._half, None))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B,C,h,w]``."""
        return torch.cat([self.instance(x[:, : self._half]), self.batch(x[:, self._half :])], 1)


class _Place(NamedTuple):
    """A norm, or where one may be put, in its module."""

    parent: nn.Module
    name: str

    @property
    def module(self) -> nn.Module:
        return self.parent.get_submodule(self.name)

    def put(self, module: nn.Module) -> None:
        setattr(self.parent, self.name, module)


def has_stem_norm(backbone: Backbone) -> bool:
    """Return whether an instance norm is already in the place of the stem's last batch norm."""
    return isinstance(_stem_norm(backbone)[0].module, InstanceNorm)


def halve_norms(backbone: Backbone) -> None:
    """Make the first norm of each block IBN-a's, in all stages but the last, as published."""
    for place in _first_norms(backbone):
        place.put(HalfInstanceNorm(cast(nn.BatchNorm2d, place.module)))


def normalize_ends(backbone: Backbone, *, affine: bool, noted: bool = False) -> list[InstanceNorm]:
    """Put instance norms where IBN-b has them.

    In the place of the stem's last batch norm, and behind the last block of strides 4 and 8,
    before its activation.

    Args:
        backbone: one of `BACKBONES`.
        affine: whether they have weights; the stem's are then those of the batch norm.
        noted: whether they note what they return.

    Returns:
        The norms, in this order.
    """
    stem, activation = _stem_norm(backbone)
    old = cast(nn.BatchNorm2d, stem.module)
    first = InstanceNorm(old.num_features, affine=affine, noted=noted).to(old.weight)
    if affine:
        _take_over(first, old, slice(None))
    stem.put(first)
    norms = [first]
    _keep_input(activation)
    for block, last in last_blocks(backbone):
        norm = InstanceNorm(last.num_features, affine=affine, noted=noted).to(old.weight)
        if isinstance(block, MBConv | ResidualBlock):
            block.end_norm = norm
        else:
            block.activation = nn.Sequential(norm, nn.ReLU())
        norms.append(norm)
    return norms


def last_blocks(backbone: Any) -> list[tuple[Any, nn.BatchNorm2d]]:
    """Return the last blocks of strides 4 and 8, each with its last batch norm."""
    if isinstance(backbone, ResNet):
        bottlenecks = [_layers(stage)[-1] for stage in backbone.stages[:2]]
        return [(block, block.layer[-1].normalization) for block in bottlenecks]
    if isinstance(backbone, EfficientNetLite):
        inverted: list[Any] = [backbone.blocks[backbone.ends[stride] - 1] for stride in (4, 8)]
        return [(block, block.project[1]) for block in inverted]
    basic: list[Any] = [backbone.stem[2], backbone.trunk[1]]
    return [(block, block.second[1]) for block in basic]


def _first_norms(backbone: Any) -> list[_Place]:
    if isinstance(backbone, ResNet):
        bottlenecks = [block for stage in backbone.stages[:3] for block in _layers(stage)]
        return [_Place(block.layer[0], 'normalization') for block in bottlenecks]
    if isinstance(backbone, EfficientNetLite):
        inverted: list[Any] = list(backbone.blocks[: backbone.whole])
        parts = [block.expand for block in inverted]
        return [_Place(part, '1') for part in parts if isinstance(part, nn.Sequential)]
    basic: list[Any] = [backbone.stem[2], *backbone.trunk[:-1]]
    return [_Place(block.first, '1') for block in basic]


def _stem_norm(backbone: Any) -> tuple[_Place, _Place]:
    """Return the place of the stem's last norm, and of the activation after it."""
    if isinstance(backbone, ResNet):  # the last layer is the pooling
        last = len(backbone.stem) - 3
        return _Place(backbone.stem, str(last)), _Place(backbone.stem, str(last + 1))
    if isinstance(backbone, EfficientNetLite):
        return _Place(backbone.stem, '1'), _Place(backbone.stem, '2')
    return _Place(backbone.stem[1], '1'), _Place(backbone.stem[1], '2')


def _layers(stage: Any) -> list[Any]:
    return list(stage.layers)


def _keep_input(place: _Place) -> None:
    """Let an activation leave what it reads as it is: losses read it too."""
    place.put(type(place.module)())


@torch.no_grad()
def _take_over(new: Any, old: nn.BatchNorm2d, part: slice) -> None:
    new.to(old.weight)
    new.weight.copy_(old.weight[part])
    new.bias.copy_(old.bias[part])
    if isinstance(new, nn.BatchNorm2d):
        assert old.running_mean is not None and old.running_var is not None
        new.running_mean.copy_(old.running_mean[part])  # type: ignore[union-attr]
        new.running_var.copy_(old.running_var[part])  # type: ignore[union-attr]

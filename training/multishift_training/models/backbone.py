# SPDX-License-Identifier: Apache-2.0
"""The contract between backbones and the DeepLab over them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from multishift_training.models.input_scale import InputScale
from multishift_training.models.layout import Layout


class Features(NamedTuple):
    """What a DeepLab decoder needs of a backbone; each size is rounded up.

    Attributes:
        low: ``[B,low_channels,h,w]`` at stride 2 or 4, for sharp borders.
        high: ``[B,high_channels,h',w']`` at stride 8 or 16, for context.
    """

    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class DecoderConfig:
    """In what the DeepLabs over different backbones differ outside them.

    Attributes:
        rates: dilations of the pyramid's 3x3 convolutions, in pixels of the high-level feature.
        channels: of each branch of the pyramid, of its projection and of the decoder.
        low_channels: of the low-level feature after its projection.
        normalised_projections: whether batch norm and ReLU follow the 1x1 projections of the
            pyramid and of the low-level feature.
        separable: whether 3x3 convolutions are depthwise separable.
        classifier_bias: whether the classifier, and with it the uncertainty head, has a bias.
    """

    rates: tuple[int, ...] = (6, 12, 18)
    channels: int = 256
    low_channels: int = 48
    normalised_projections: bool = True
    separable: bool = False
    classifier_bias: bool = True


class Backbone(nn.Module):
    """A network from ``image [B,3,H,W]`` to `Features`, in three steps.

    What a method may put between them, as it adapts the network, are the taps: modules that take
    a feature to one of its shape.

    Attributes:
        entry_tap: reads what `enter` returns.
        low_tap: reads what `shallow` returns, on the way to `deep` only.
        low_channels: of the low-level feature.
        high_channels: of the high-level feature.
        decoder: the decoder published with this backbone.
        input_scale: of the images it takes.
        imagenet_package: name of the package whose one ``.pth`` file holds its ImageNet weights;
            none where there is no such package.
    """

    low_channels: int
    high_channels: int
    decoder: DecoderConfig
    input_scale: InputScale
    imagenet_package: str | None = None

    def __init__(self) -> None:
        """Make it without taps."""
        super().__init__()
        self.entry_tap: nn.Module = nn.Identity()
        self.low_tap: nn.Module = nn.Identity()

    @abstractmethod
    def enter(self, image: Tensor) -> Tensor:
        """Return what the first layers make of ``image [B,3,H,W]``, at stride 2 or 4."""

    @abstractmethod
    def shallow(self, entered: Tensor) -> Tensor:
        """Return the low-level feature of what `enter` returned."""

    @abstractmethod
    def deep(self, low: Tensor) -> Tensor:
        """Return the high-level feature of the low-level one."""

    def forward(self, image: Tensor) -> Features:
        """Return the features of ``image [B,3,H,W]``."""
        low = self.shallow(self.entry_tap(self.enter(image)))
        return Features(low, self.deep(self.low_tap(low)))

    def layouts(self) -> Sequence[Layout]:
        """Return the layouts of published DeepLabs over this backbone, heads included."""
        return ()

# SPDX-License-Identifier: Apache-2.0
"""DeepLab with a residual pattern block (Liu et al., ICCV 2023, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multishift_training.models.deeplab import Aspp, DeepLabV3Plus, initialise
from multishift_training.models.layers import gaussian, smoothed, upsample
from multishift_training.models.precision import exactly, in_full
from multishift_training.models.prediction import Prediction

_KERNEL = 7  # rows and columns of the smoothing, of a standard deviation of one pixel


class ResidualBlock(nn.Module):
    """A pyramid beside the frozen one, whose output is added to what the frozen decoder reads."""

    def __init__(self, model: DeepLabV3Plus) -> None:
        """Make the block for a network, of the form of its own pyramid."""
        super().__init__()
        config = model.backbone.decoder
        self.aspp = Aspp(model.backbone.high_channels, config)
        self.final = nn.Conv2d(
            config.channels, config.low_channels + config.channels, 1, bias=False
        )
        self.apply(initialise)

    def forward(self, high: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the residual ``[B,low+channels,*size]`` and the context ``[B,channels,*size]``.

        Args:
            high: the backbone's high-level feature.
            size: rows and columns of the decoder's input.
        """
        context = upsample(self.aspp(high), size)
        return self.final(context), context


class ResidualDeepLab(DeepLabV3Plus):
    """A DeepLab whose score is of its decoder's second look, at features with a residual.

    It takes the parts of another network under their own names. Logits and feature are that
    network's; predictions have, as auxiliary, ``logits``, those of the second look, and
    ``context``, the block's feature at the decoder's size.
    """

    def __init__(self, model: DeepLabV3Plus, *, smooth: bool) -> None:
        """Take over the parts of a network, and add ``residual``.

        Args:
            model: the network.
            smooth: smooth the score.
        """
        nn.Module.__init__(self)
        self.input_scale = model.input_scale
        self.imagenet_package = model.imagenet_package
        for name, part in model.named_children():
            self.add_module(name, part)
        for hook in model._forward_hooks.values():  # by which other methods have it say more
            self.register_forward_hook(hook)
        self.residual = ResidualBlock(model)
        self._smooth = smooth
        self.kernel: Tensor
        weights = gaussian(_KERNEL, 1.0, self.residual.final.weight)
        self.register_buffer('kernel', weights, persistent=False)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        """Return the network's own prediction, with the score of the second look."""
        size = size or (image.shape[2], image.shape[3])
        low, high = self.backbone(image)
        rows, columns = low.shape[2:]
        joined = torch.cat([self.low(low), upsample(self.aspp(high), (rows, columns))], 1)
        feature = self.decoder(joined)
        residual, context = self.residual(high, (rows, columns))
        again = upsample(self.classifier(self.decoder(joined + residual)), size)
        score = -in_full(again).logsumexp(1)
        if self._smooth:
            with exactly(score):  # mixed precision would round scores to 8 bits
                score = smoothed(score, self.kernel)
        logits = self.classifier(feature)
        return Prediction(
            upsample(logits, size),
            score,
            feature,
            auxiliary={'logits': again, 'context': context},
            coarse_logits=logits,
        )


class Projection(nn.Module):
    """Embeds pixels for the contrastive loss; it serves only training."""

    def __init__(self, channels: int, width: int) -> None:
        """Make a 1x1 convolution, as released."""
        super().__init__()
        self.layer = nn.Conv2d(channels, width, 1)

    def forward(self, context: Tensor) -> Tensor:
        """Return ``[B,width,h,w]`` of ``context [B,channels,h,w]``."""
        embedded: Tensor = self.layer(context)
        return embedded

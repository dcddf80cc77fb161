# SPDX-License-Identifier: Apache-2.0
"""The memory that Pin the Memory (Kim et al., CVPR 2022) puts behind a DeepLab's pyramid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models.deeplab import DeepLabV3Plus, initialise
from multishift_training.models.layers import conv_bn_relu
from multishift_training.models.noted import Noted
from multishift_training.models.precision import exactly, in_full
from multishift_training.models.prediction import Prediction
from multishift_training.models.spc import unit

# Where it is in the network: its name stays that of the pyramid.
MEMORY = 'aspp.memory'


class ClassMemory(nn.Module):
    """An item for each class, which every pixel recalls by likeness.

    Attributes:
        items: unit vectors ``[K,D]``. A method writes them.
        written: which of them ever were, ``bool [K]``.
        noted: of the last forward pass, its input ``[B,D,h,w]``.
    """

    items: Tensor
    written: Tensor

    def __init__(self, classes: int, channels: int) -> None:
        """Make a memory of random items.

        Args:
            classes: K.
            channels: D, of the feature that it reads and gives.
        """
        super().__init__()
        self.register_buffer('items', F.normalize(torch.rand(classes, channels), dim=1))
        self.register_buffer('written', torch.zeros(classes, dtype=torch.bool))
        self.join = conv_bn_relu(2 * channels, channels, kernel=1)
        self.join.apply(initialise)
        self.noted = Noted()

    def forward(self, feature: Tensor) -> Tensor:
        """Return the feature ``[B,D,h,w]``, joined with what it recalls."""
        self.noted.put(feature)
        query = unit(in_full(feature))
        # Losses write the items before gradients are taken; a program's are constant.
        items = self.items if torch.compiler.is_exporting() else self.items.clone()
        items = items.to(query)
        with exactly(query):
            weights = F.conv2d(query, items[:, :, None, None]).softmax(1)
            recalled = F.conv2d(weights, items.T[:, :, None, None])
        joined: Tensor = self.join(torch.cat([query, recalled], 1).to(feature.dtype))
        return joined


class Writing(nn.Module):
    """Makes of features what is written; no network keeps it."""

    def __init__(self, channels: int) -> None:
        """Make it for ``channels`` of the feature."""
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )
        self.residual.apply(initialise)

    def forward(self, feature: Tensor) -> Tensor:
        """Return embeddings of length 1, ``[B,D,h,w]``."""
        return unit((feature + self.residual(feature)).relu())


def add_memory(model: DeepLabV3Plus) -> None:
    """Put a memory behind the pyramid.

    Predictions then have, as auxiliary, ``recalled_by`` ``[B,D,h,w]``, the feature that reads it.
    """
    channels = next(p for p in model.aspp.project.modules() if isinstance(p, nn.Conv2d))
    model.aspp.add_module(
        'memory', ClassMemory(model.classifier.out_channels, channels.out_channels)
    )
    model.aspp.register_forward_hook(_recall)
    model.register_forward_hook(_say_feature)


def _recall(pyramid: Any, inputs: Any, feature: Tensor) -> Tensor:
    joined: Tensor = pyramid.memory(feature)
    return joined


def _say_feature(model: Any, inputs: Any, prediction: Prediction) -> Prediction:
    return prediction.with_auxiliary({'recalled_by': model.aspp.memory.noted.take()})

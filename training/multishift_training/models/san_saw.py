# SPDX-License-Identifier: Apache-2.0
"""Semantic-aware normalisation (SAN, Peng et al., CVPR 2022) behind strides 4 and 8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from multishift_training.models.deeplab import DeepLabV3Plus
from multishift_training.models.instance_norm import InstanceNorm, last_blocks
from multishift_training.models.noted import Noted
from multishift_training.models.precision import in_full
from multishift_training.models.prediction import Prediction

PLACES = ('stride_4', 'stride_8')
_CLUSTERS = 5
_REFINED = 5  # times that clusters are; as released, until they stay


class SemanticNorm(nn.Module):
    """Normalises the region of each of some classes by itself, and adds them up.

    Attributes:
        classes: which classes, by label.
        noted: of the last forward pass, its input.
        said: likewise, the logits ``[B,K,h,w]`` by which it finds regions.
    """

    def __init__(self, channels: int, num_classes: int, classes: Sequence[int]) -> None:
        """Make one.

        Args:
            channels: of the feature.
            num_classes: K.
            classes: which of them are normalised.
        """
        super().__init__()
        self.classes = tuple(classes)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        count = len(self.classes)
        self.refine = nn.Conv2d(3 * count, count, 7, padding=3, groups=count, bias=False)
        for conv in (self.classifier, self.refine):
            nn.init.normal_(conv.weight, std=0.01)
        self.norm = InstanceNorm(channels, affine=True)
        self.noted, self.said = Noted(), Noted()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B,C,h,w]``, 0 or more."""
        self.noted.put(x)
        logits = self.classifier(x.detach())
        self.said.put(logits)
        shares = in_full(logits).softmax(1)[:, self.classes].to(x.dtype)
        # Shares are no less than 0: what they leave of means and maxima over channels.
        mean, most = x.mean(1, True), x.amax(1, True)
        shown = torch.stack([shares * mean, shares * most, shares], 2).flatten(1, 2)
        gates = shares * self.refine(shown).sigmoid()
        gates = gates * above_lowest((gates * mean).detach()).to(x.dtype)
        parts = (self.norm(x * gate) for gate in gates.split(1, 1))
        return sum(parts, torch.zeros_like(x)).relu()

    def by_labels(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the same of regions that labels ``int64 [B,h,w]`` give."""
        parts = (self.norm(x * (labels == c)[:, None].to(x.dtype)) for c in self.classes)
        return sum(parts, torch.zeros_like(x)).relu()


def above_lowest(maps: Tensor) -> Tensor:
    """Return where each of ``maps [B,N,h,w]`` is above the lowest of five clusters of its values.

    Clusters are of k-means from centres at equal distances, of a number of steps that is fixed,
    so that engines can compute it.
    """
    values = in_full(maps).flatten(2)
    low, high = values.amin(2, True), values.amax(2, True)
    places = torch.arange(_CLUSTERS, device=values.device)
    centres = low + places.to(values) / (_CLUSTERS - 1) * (high - low)
    for _ in range(_REFINED):
        members = (_nearest(values, centres)[:, :, None] == places[:, None]).to(values)
        counts, sums = members.sum(3), (members * values[:, :, None]).sum(3)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return (_nearest(values, centres) > 0).view_as(maps)


def _nearest(values: Tensor, centres: Tensor) -> Tensor:
    """Return the place of the nearest of rising centres ``[B,N,k]``, for ``values [B,N,n]``."""
    between = (centres[..., 1:] + centres[..., :-1]) / 2
    return (values[:, :, None] > between[..., None]).sum(2)


def add_semantic_norms(model: DeepLabV3Plus, classes: Sequence[int]) -> None:
    """Put norms behind the last blocks of strides 4 and 8.

    Predictions then have, as auxiliary, of each of `PLACES`: ``PLACE_input``, ``PLACE_logits`` and
    ``PLACE``, what the norm made of it.
    """
    weight = next(model.parameters())
    for block, last in last_blocks(model.backbone):
        norm = SemanticNorm(last.num_features, model.classifier.out_channels, classes)
        block.add_module('semantic_norm', norm.to(weight))
        block.register_forward_hook(_normalise)
        block.normalised = Noted()
    model.register_forward_hook(_say_normalised)


def semantic_norms(model: DeepLabV3Plus) -> list[SemanticNorm]:
    """Return those of a network, in the order of `PLACES`."""
    return [block.semantic_norm for block, _ in last_blocks(model.backbone)]


def _normalise(block: Any, inputs: Any, feature: Tensor) -> Tensor:
    normalised: Tensor = block.semantic_norm(feature)
    block.normalised.put(normalised)
    return normalised


def _say_normalised(model: Any, inputs: Any, prediction: Prediction) -> Prediction:
    said = {}
    for place, (block, _) in zip(PLACES, last_blocks(model.backbone), strict=True):
        said[place] = block.normalised.take()
        said[f'{place}_input'] = block.semantic_norm.noted.take()
        said[f'{place}_logits'] = block.semantic_norm.said.take()
    return prediction.with_auxiliary(said)

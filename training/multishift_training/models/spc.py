# SPDX-License-Identifier: Apache-2.0
"""What style projected clustering (Huang et al., CVPR 2023) adds to a DeepLab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models import deeplab_layouts
from multishift_training.models.backbone import Backbone
from multishift_training.models.deeplab import DeepLabV3Plus, initialise
from multishift_training.models.layout import Layout
from multishift_training.models.noted import Noted
from multishift_training.models.precision import exactly, in_full
from multishift_training.models.prediction import Prediction
from multishift_training.models.resnet import ResNet
from multishift_training.models.style_projection import StyleProjection, Weighting


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map ``[B,D,h,w]``."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the map, normalised at each pixel."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class Clusters(nn.Module):
    """A classifier by the nearest of the bases of each class, one for each domain.

    Attributes:
        bases: unit vectors of M domains and C classes, as the weight of a 1x1 convolution,
            ``[M*C,D,1,1]``, those of the first domain first. A method moves them.
        steps: how often it did.
        noted: of the last forward pass, the embeddings ``[B,D,h,w]``, of length 1.
    """

    bases: Tensor
    steps: Tensor

    def __init__(self, inputs: int, classes: int, domains: int, width: int) -> None:
        """Make a classifier of random bases.

        Args:
            inputs: channels of the feature.
            classes: C.
            domains: M.
            width: D.
        """
        super().__init__()
        self.projection = nn.Sequential(
            nn.Conv2d(inputs, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 1)
        )
        self.projection.apply(initialise)
        self.feature_norm = ChannelNorm(width)
        self.class_norm = ChannelNorm(classes)
        bases = nn.init.normal_(torch.empty(domains * classes, width, 1, 1), std=0.02)
        self.register_buffer('bases', F.normalize(bases, dim=1))
        self.register_buffer('steps', torch.tensor(0))
        self.noted = Noted()
        self._shape = domains, classes
        self._judged: tuple[Tensor, Tensor] | None = None

    @property
    def by_domain(self) -> Tensor:
        """The bases ``[M,C,D]``, a view."""
        return self.bases.view(*self._shape, -1)

    def forward(self, feature: Tensor) -> Tensor:
        """Return logits ``[B,C,h,w]``: the cosines to the nearest bases, normalised."""
        judged, self._judged = self._judged, None
        known = judged is not None and judged[0] is feature
        cosines = judged[1] if known and judged is not None else self._cosines(feature)
        logits: Tensor = self.class_norm(cosines)
        return logits

    def distance(self, feature: Tensor) -> Tensor:
        """Return 1 minus the cosine to the nearest base of all ``[B,h,w]``, from 0 to 2.

        The classifier of the same feature, asked next, need not compute it again.
        """
        cosines = self._cosines(feature)
        self._judged = feature, cosines
        return 1 - cosines.amax(1)

    def _cosines(self, feature: Tensor) -> Tensor:
        embeddings = unit(self.feature_norm(unit(in_full(self.projection(feature)))))
        self.noted.put(embeddings)
        # Losses move the bases before gradients are taken; a program's are constant.
        bases = self.bases if torch.compiler.is_exporting() else self.bases.clone()
        with exactly(embeddings):
            cosines = F.conv2d(embeddings, bases.to(embeddings))
        return cosines.reshape(-1, *self._shape, *cosines.shape[2:]).amax(1)


class ClusterDistance(nn.Module):
    """The score of a network whose classifier is `Clusters`; it has no weights."""

    def __init__(self, clusters: Clusters) -> None:
        """Make the head beside a classifier."""
        super().__init__()
        self._clusters = (clusters,)  # in a tuple: it is the network's part, and no part of this

    def forward(self, feature: Tensor) -> Tensor:
        """Return ``[B,h,w]``."""
        return self._clusters[0].distance(feature)

    def init_from(self, classifier: nn.Module) -> None:
        """Do nothing: it is the classifier's already."""


def unit(x: Tensor) -> Tensor:
    """Return ``x [B,D,h,w]`` with each pixel of length 1.

    By a mean, which engines of 16 bits compute in 32.
    """
    return x * (x.square().mean(1, keepdim=True) * x.shape[1] + 1e-12).rsqrt()


def add_style_projection(model: DeepLabV3Plus, domains: int, weighting: Weighting) -> None:
    """Put projections at both taps of the backbone.

    Predictions then have, as auxiliary, ``entry_style`` and ``low_style``, the styles there.
    """
    _tap(model.backbone, domains, weighting)
    model.register_forward_hook(_say_styles)


def _tap(backbone: Backbone, domains: int, weighting: Weighting) -> None:
    training = backbone.training
    example = torch.zeros(1, 3, 64, 64, device=next(backbone.parameters()).device)
    with torch.no_grad():
        entered = backbone.eval().enter(example)
    backbone.train(training)
    backbone.entry_tap = StyleProjection(entered.shape[1], domains, weighting)
    backbone.low_tap = StyleProjection(backbone.low_channels, domains, weighting)


def add_clusters(model: DeepLabV3Plus, domains: int) -> None:
    """Put clusters in the place of the classifier, and their score in that of its head.

    Embeddings are as wide as the feature, as published.

    Predictions then have, as auxiliary, ``embeddings`` ``[B,D,h,w]``.
    """
    classifier = model.classifier
    network: Any = model
    width = classifier.in_channels
    network.classifier = Clusters(width, classifier.out_channels, domains, width)
    network.uncertainty = ClusterDistance(network.classifier)
    model.register_forward_hook(_say_embeddings)


class SpcDeepLab(DeepLabV3Plus):
    """DeepLabV3+ over a ResNet with projections and clusters, as SPC's author publishes it."""

    def __init__(self, depth: Literal[50, 101], num_classes: int) -> None:
        """Make it for two domains; it takes the files of others."""
        super().__init__(ResNet(depth, deep_stem=depth == 101), num_classes)
        add_style_projection(self, 2, 'weighted')
        add_clusters(self, 2)

    def layouts(self) -> Sequence[Layout]:
        """Return those of the author's files."""
        return deeplab_layouts.spc(self._set_domains)

    def _set_domains(self, domains: int) -> Callable[[], None]:
        """Change bases to newly initialised ones of so many domains; return what undoes that."""
        backbone, clusters = self.backbone, cast(Any, self.classifier)
        before = backbone.entry_tap, backbone.low_tap, clusters
        (_, classes, width), weight = clusters.by_domain.shape, next(self.parameters())
        _tap(backbone, domains, 'weighted')
        self._put(Clusters(width, classes, domains, width))
        self.to(weight).train(self.training)

        def undo() -> None:
            backbone.entry_tap, backbone.low_tap, former = before
            self._put(former)

        return undo

    def _put(self, clusters: Clusters) -> None:
        network = cast(Any, self)
        network.classifier, network.uncertainty = clusters, ClusterDistance(clusters)


def _say_styles(model: Any, inputs: Any, prediction: Prediction) -> Prediction:
    backbone = model.backbone
    styles = {
        'entry_style': backbone.entry_tap.noted.take(),
        'low_style': backbone.low_tap.noted.take(),
    }
    return prediction.with_auxiliary(styles)


def _say_embeddings(model: Any, inputs: Any, prediction: Prediction) -> Prediction:
    return prediction.with_auxiliary({'embeddings': model.classifier.noted.take()})

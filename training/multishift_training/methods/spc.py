# SPDX-License-Identifier: Apache-2.0
"""Style projected clustering (Huang et al., CVPR 2023): styles of the sources, and their bases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, Sample, TrainingData
from multishift_training.datasets.config import Momentum, Positive, Weight
from multishift_training.methods.closed_world import mean_cross_entropy
from multishift_training.methods.method import Context, Method, check_is_deeplab
from multishift_training.methods.outliers import check_classifies_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction, SegmentationModel

_STYLE = 'style'


class Spc(Method):
    """Styles are projected onto those of the sources, pixels onto their nearest semantic base.

    Attributes:
        sources: how many domains ``data.images`` has; each has style bases and semantic bases.
        single_source: what takes the place of domains where there is one source: ten looks, which
            images are given at random (``styles``), or that source alone (``one``).
        projection: how style bases are mixed, at both taps: by their distance (``weighted``), the
            ``nearest`` alone, or ``normalise``, without bases; ``off`` leaves features as they
            are.
        clustering: put the nearest of the semantic bases in the place of the classifier.
        variance: weight of the distance of pixels to their base.
        discrimination: weight of the contrast of a class's mean to the bases of others.
        temperature: of that contrast.
        style_momentum: share of itself that a style base keeps in a step.
        semantic_momentum: the same of a semantic base.
        ramp_steps: steps over which the latter rises, from 0.905 on, as the author's code can; 0
            leaves it constant.
        class_weights: weight the cross-entropy of classes by their rarity; not in the paper.
    """

    kind: Literal['spc']
    sources: int = Field(ge=1)
    single_source: Literal['styles', 'one'] = 'styles'
    projection: Literal['weighted', 'nearest', 'normalise', 'off'] = 'weighted'
    clustering: bool = True
    variance: Weight = 0.001
    discrimination: Weight = 0.01
    temperature: Positive = 0.1
    style_momentum: Momentum = 0.9
    semantic_momentum: Momentum = 0.999
    ramp_steps: int = Field(default=0, ge=0)
    class_weights: bool = False

    @property
    def domains(self) -> int:
        """How many domains have bases."""
        from multishift_training.datasets.styles import ROAD_STYLES

        return len(ROAD_STYLES) if self._draws_styles else self.sources

    @property
    def _draws_styles(self) -> bool:
        return self.sources == 1 and self.single_source == 'styles'

    def check_data(self, data: TrainingData) -> None:
        """See that the data have as many domains as there are bases for."""
        found = len(data.domains)
        if found != self.sources:
            raise MultishiftError(
                f'method spc has bases for sources: {self.sources}, and data.images are {found} '
                f'domain{"s" * (found > 1)}: set sources to {found}'
            )

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that it has a backbone with taps."""
        from multishift_training.models.heads import EnergyHead
        from multishift_training.models.spc import SpcDeepLab

        if isinstance(model, SpcDeepLab):
            raise MultishiftError(
                f'method spc adds what {name} has already: choose {name.removesuffix("_spc")}'
            )
        check_is_deeplab(model, name, 'spc projects styles in the backbone')
        if self.clustering:
            check_classifies_pixels(model, name, self.kind)
            if not isinstance(model.uncertainty, EnergyHead):
                raise MultishiftError(
                    'method spc puts clusters in the place of the classifier and its score, which '
                    f'{name} has of another method: set clustering: false, or leave out one of '
                    'them'
                )

    def views(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample; of a single source each member in a look drawn for it.

        Extras: ``style``, which of ``ROAD_STYLES``.
        """
        if not self._draws_styles:
            return sample
        from multishift_training.datasets.styles import ROAD_STYLES, in_road_style

        drawn = rng.integers(len(ROAD_STYLES), size=len(sample.images))
        images = [
            in_road_style(image, ROAD_STYLES[style], stream)
            for image, style, stream in zip(
                sample.images, drawn, rng.spawn(len(drawn)), strict=True
            )
        ]
        extras = {**sample.extras, _STYLE: drawn.astype(np.int64)}
        return sample._replace(images=np.stack(images), extras=extras)

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Give the network its projections and its clusters."""
        from multishift_training.models.deeplab import DeepLabV3Plus
        from multishift_training.models.spc import add_clusters, add_style_projection

        assert isinstance(model, DeepLabV3Plus)  # `check_network` saw to it
        if self.projection != 'off':
            weighting = 'none' if self.projection == 'normalise' else self.projection
            add_style_projection(model, self.domains, weighting)
        if self.clustering:
            add_clusters(model, self.domains)
        return model

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the losses over the whole batch, then move the bases."""
        own = batch.extras[_STYLE] if self._draws_styles else batch.domains
        domains = context.gather(own)
        parts = {'cross_entropy': mean_cross_entropy(prediction, batch, context)}
        said = prediction.auxiliary or {}
        if self.clustering:
            batch = batch._replace(domains=own)
            parts |= self._cluster(said['embeddings'], batch, domains, context)
        if self.projection != 'off':
            self._move_styles(said, domains, context)
        return parts

    def _cluster(
        self, embeddings: Tensor, batch: Batch, domains: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """Return the losses of clustering, and move the semantic bases."""
        import torch
        from torch.nn import functional as F

        from multishift_training.losses import spc
        from multishift_training.losses.noise_aware import health
        from multishift_training.models.spc import Clusters

        clusters = context.model.get_submodule('classifier')
        assert isinstance(clusters, Clusters)  # `adapt` made them
        gather, bases = context.gather, clusters.by_domain.clone()
        size = embeddings.shape[2:]
        labels = F.interpolate(batch.labels[:, None].float(), size, mode='nearest')[:, 0].long()
        sums = spc.cluster_sums(embeddings, labels, bases, batch.domains)
        sums = spc.ClusterSums(*map(gather, sums))
        terms = spc.cluster_terms(sums, bases, domains, temperature=self.temperature)
        with torch.no_grad():
            momentum = self._momentum(clusters.steps)
            clusters.steps.add_(1)
            moved = spc.moved(bases, terms.means, terms.present, momentum)
            moved = F.normalize(moved, dim=-1)
            # Those that stay do so to the bit.
            moved = torch.where(terms.present[..., None], moved, bases)
            clusters.bases.copy_(moved.reshape(clusters.bases.shape))
        return {
            'variance': self.variance * terms.variance + gather(health(embeddings)).sum(),
            'discrimination': self.discrimination * terms.discrimination,
        }

    def _momentum(self, steps: Tensor) -> float | Tensor:
        """Return the momentum after so many steps, without waiting for their number."""
        if not self.ramp_steps:
            return self.semantic_momentum
        left = (1 - steps / self.ramp_steps).clamp(min=0)
        return (-0.1 * left.square()).exp().clamp(max=self.semantic_momentum)

    def _move_styles(self, said: dict[str, Tensor], domains: Tensor, context: Context) -> None:
        import torch

        from multishift_training.losses.spc import means_of_domains, moved

        for tap in ('entry', 'low'):
            bases = context.model.get_submodule(f'backbone.{tap}_tap').get_buffer('bases')
            styles = context.gather(said[f'{tap}_style'])
            with torch.no_grad():
                means, seen = means_of_domains(styles, domains, self.domains)
                bases.copy_(moved(bases, means, seen, self.style_momentum))

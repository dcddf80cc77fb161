# SPDX-License-Identifier: Apache-2.0
"""Instance-selective whitening (RobustNet, Choi et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from multishift_training.datasets import Batch, Sample
from multishift_training.datasets.config import Weight
from multishift_training.methods.closed_world import mean_cross_entropy
from multishift_training.methods.ibn import check_takes_instance_norms
from multishift_training.methods.method import Context, Method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multishift_training.models import Prediction, SegmentationModel

_CHANGED = 'changed'
_PLACES = ('stem', 'stride_4', 'stride_8')


class Isw(Method):
    """Cross-entropy, and the covariances made small that vary with the look of an image.

    The backbone gets instance norms without weights at three places. Which covariances vary is
    looked at once, in the steps after the first ones: between an image and another look of it,
    that of its partner where data are pairs, else one of other colours.

    Attributes:
        whitening: weight of the mean of the covariances that vary.
        clusters: of the variances; all but the first are those that vary.
        warmup_steps: steps of cross-entropy alone.
        trials: how often is looked; a covariance varies where all trials found it.
        trial_steps: steps of a trial.
        class_weights: weight the cross-entropy of classes by their rarity; not in the paper.
    """

    kind: Literal['isw']
    whitening: Weight = 0.6
    clusters: int = Field(default=3, ge=2)
    warmup_steps: int = Field(default=1000, ge=0)
    trials: int = Field(default=10, ge=1)
    trial_steps: int = Field(default=50, ge=1)
    class_weights: bool = False

    @property
    def _looked(self) -> int:
        """The step from which on the masks are known."""
        return self.warmup_steps + self.trials * self.trial_steps

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that the places of the norms are known."""
        check_takes_instance_norms(model, name, self.kind)

    def views(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample, and beside a single image how it is in other colours.

        Extras: ``changed``, images ``uint8 [1,H,W,3]``.
        """
        if len(sample.images) != 1:
            return sample
        from multishift_training.datasets.styles import in_other_colors

        changed = in_other_colors(sample.images[0], rng)[None]
        return sample._replace(extras={**sample.extras, _CHANGED: changed})

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Put the norms into the backbone; predictions have what they return as auxiliary."""
        from multishift_training.models.deeplab import DeepLabV3Plus
        from multishift_training.models.instance_norm import normalize_ends

        assert isinstance(model, DeepLabV3Plus)  # `check_network` saw to it
        normalize_ends(model.backbone, affine=False, noted=True)
        model.register_forward_hook(_say_standardised)
        return model

    def make_state(self, model: SegmentationModel) -> nn.Module:
        """Return the steps, the sums of a trial, and the masks."""
        import torch
        from torch import nn

        state = nn.Module()
        state.register_buffer('steps', torch.tensor(0))
        for place, norm in zip(_PLACES, _norms(model), strict=True):
            square = norm.num_features, norm.num_features
            state.register_buffer(f'sums_{place}', torch.zeros(square))
            state.register_buffer(f'mask_{place}', torch.ones(square, dtype=torch.bool).triu(1))
        return state

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the cross-entropy and, once it is known what varies, the whitening loss."""
        import torch

        from multishift_training.losses.noise_aware import health
        from multishift_training.losses.whitening import whitening

        state, said = context.state, prediction.auxiliary
        assert state is not None and said is not None  # `make_state` and `adapt` saw to it
        steps = int(state.get_buffer('steps').add_(1))
        if self.warmup_steps < steps <= self._looked:
            self._look(batch, context, steps - self.warmup_steps)
        parts = {'cross_entropy': mean_cross_entropy(prediction, batch, context)}
        maps = [said[f'isw_{place}'] for place in _PLACES]
        weight = self.whitening if steps >= self._looked else 0.0
        losses = [
            whitening(values, state.get_buffer(f'mask_{place}'))
            for place, values in zip(_PLACES, maps, strict=True)
            if weight
        ]
        each = torch.stack(losses).mean(0) if losses else maps[0].new_zeros(len(maps[0]))
        sound = sum(health(values) for values in maps)
        parts['whitening'] = (context.gather(weight * each + sound)).mean()
        return parts

    def _look(self, batch: Batch, context: Context, step: int) -> None:
        """Add a step to a trial; at the end of one, keep what it found too."""
        import torch

        from multishift_training.losses.whitening import covariance_variance, sensitive

        if batch.members == 2:
            images = batch.images.chunk(2)
        else:
            images = batch.images, batch.extras[_CHANGED]
        with torch.no_grad():
            with context.autocast():
                seen = [_standardised(context.model, part) for part in images]
            pairs = zip(*seen, strict=True)
            for place, (one, other) in zip(_PLACES, pairs, strict=True):
                assert context.state is not None
                sums = context.state.get_buffer(f'sums_{place}')
                found = covariance_variance(one, other)
                # Of both members, as processes join what they have of each.
                found = context.gather(found.repeat(batch.members, 1, 1)).mean(0)
                sums.add_(found.to(sums))
                if step % self.trial_steps == 0:
                    mask = context.state.get_buffer(f'mask_{place}')
                    mask.logical_and_(sensitive(sums, self.clusters))
                    sums.zero_()


def _norms(model: SegmentationModel) -> list[Any]:
    from multishift_training.models.instance_norm import InstanceNorm

    norms = (part for part in model.modules() if isinstance(part, InstanceNorm))
    return [norm for norm in norms if norm.noted is not None]


def _standardised(model: Any, images: Tensor) -> list[Tensor]:
    """Return what the norms make of images ``uint8 [B,H,W,3]`` in evaluation."""
    from multishift_training.models.input_scale import Normalize

    weight = next(model.parameters())
    normalize = Normalize(model.input_scale).to(weight.device)
    with _in_evaluation(model.backbone):
        model.backbone(normalize(images).to(weight.dtype))
    return [norm.noted.take() for norm in _norms(model)]


@contextmanager
def _in_evaluation(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _say_standardised(model: Any, inputs: Any, prediction: Prediction) -> Prediction:
    taken = zip(_PLACES, _norms(model), strict=True)
    return prediction.with_auxiliary({f'isw_{place}': norm.noted.take() for place, norm in taken})

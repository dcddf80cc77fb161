# SPDX-License-Identifier: Apache-2.0
"""Self-training: coarse labels of other streets become classes, as a mean teacher sees them."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, Sample, TrainingData
from multishift_training.datasets.config import Momentum, Share, Weight
from multishift_training.methods.method import Context, Method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multishift_training.models import Prediction, SegmentationModel

_PLAIN = 'plain'

Labels = TypeVar('Labels', NDArray[Any], 'Tensor')


class SelfTraining(Method):
    """Cross-entropy over the known classes, and over a teacher's classes where labels are coarse.

    The teacher is the moving average of the network (Tarvainen and Valpola 2017). Where a label
    stands for a group of classes, its most probable class of that group is the label, if it is
    sure of it; elsewhere the group as a whole is learned, as closed world does. The network sees
    those images in stronger colours than the teacher (Hoyer et al. 2022, without mixed images),
    so that it learns what does not go by the look.

    Attributes:
        confidence: probability, among the classes of the group, from which the teacher's class
            is learned.
        momentum: of the moving average, for each step.
        weight: of pixels with a class of the teacher's, beside 1 of labelled ones.
        strong_color: probability that an image with coarse labels is changed strongly.
        class_weights: weight classes by their rarity.
    """

    kind: Literal['self_training']
    confidence: Share = 0.9
    momentum: Momentum = 0.99
    weight: Weight = 1.0
    strong_color: Share = 0.8
    class_weights: bool = False

    def check_data(self, data: TrainingData) -> None:
        """See that some labels are coarse."""
        if not data.groups:
            raise MultishiftError(
                'method self_training learns from coarse labels, which none of data.images has: '
                'add a data set of them, as lums_road, or take method closed_world'
            )

    def views(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample in strong colours where labels are coarse, and as it was beside."""
        from multishift_training.datasets.styles import in_strong_colors

        plain, images = sample.images, sample.images
        if is_coarse(sample.labels, sample.num_classes).any():
            streams = zip(plain, rng.spawn(len(plain)), strict=True)
            images = np.stack(
                [in_strong_colors(x, self.strong_color, stream) for x, stream in streams]
            )
        return sample._replace(images=images, extras={**sample.extras, _PLAIN: plain})

    def make_state(self, model: SegmentationModel) -> nn.Module:
        """Return the teacher, and the steps that it has followed."""
        from torch import nn, tensor

        state = nn.Module()
        state.teacher = copy.deepcopy(model).requires_grad_(False)
        state.register_buffer('steps', tensor(0))
        return state

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the mean cross-entropy over labelled pixels, those of the teacher among them."""
        import torch

        from multishift_training.losses.noise_aware import checked_cross_entropy

        state, gather = context.state, context.gather
        assert state is not None
        teacher = state.get_submodule('teacher')
        steps = state.get_buffer('steps').add_(1)
        # At first the mean of all steps so far: the network as it was before is no teacher.
        follow(teacher, context.model, (1 - 1 / steps).clamp(max=self.momentum))
        labels, taught = self._teach(teacher, batch, context)
        losses = checked_cross_entropy(
            prediction.logits, labels, context.class_weights, context.groups
        )
        losses = gather(losses * torch.where(taught, self.weight, 1.0))
        known = (gather(batch.labels) < NOVEL).sum()
        return {'cross_entropy': losses.sum() / known.clamp(min=1)}

    def _teach(self, teacher: nn.Module, batch: Batch, context: Context) -> tuple[Tensor, Tensor]:
        """Return labels ``int64 [B,H,W]`` and where they are the teacher's, ``bool [B,H,W]``."""
        import torch

        from multishift_training.models.input_scale import Normalize
        from multishift_training.models.precision import in_full

        labels, groups = batch.labels, context.groups
        if groups is None:
            return labels, torch.zeros_like(labels, dtype=torch.bool)
        coarse = is_coarse(labels, groups.shape[1])
        images = coarse.flatten(1).any(1)
        if not images.any():
            return labels, torch.zeros_like(coarse)
        teacher.eval()
        with torch.no_grad(), context.autocast():
            normalize = Normalize(context.model.input_scale).to(labels.device)
            plain = normalize(batch.extras[_PLAIN][images])
            logits = in_full(teacher(plain, tuple(labels.shape[1:])).logits)
        classes, sure = classes_in_groups(logits, labels[images], groups)
        taught = torch.zeros_like(coarse)
        taught[images] = coarse[images] & (sure >= self.confidence)
        found = labels.clone()
        found[images] = torch.where(taught[images], classes, labels[images])
        return found, taught


def follow(teacher: nn.Module, model: nn.Module, momentum: Tensor) -> None:
    """Move the teacher's weights, and its statistics, towards those of the network.

    Args:
        teacher: of the network's form.
        model: the network.
        momentum: share of itself that the teacher keeps, a scalar; whole numbers become the
            network's.
    """
    import torch

    with torch.no_grad():
        news = model.state_dict()
        for name, old in teacher.state_dict().items():
            if old.is_floating_point():
                old.lerp_(news[name], (1 - momentum).to(old))
            else:
                old.copy_(news[name])


def classes_in_groups(logits: Tensor, labels: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the most probable class of each pixel's group, and how probable it is.

    Args:
        logits: ``[B,C,H,W]``.
        labels: ``int64 [B,H,W]``; what is no group gets any class.
        groups: classes that the labels ``C..C+G-1`` stand for, ``bool [G,C]``.

    Returns:
        Classes ``int64 [B,H,W]``, and their probabilities among those of the group.
    """
    row = (labels - groups.shape[1]).clamp(0, len(groups) - 1)
    ruled_out = ~groups[row].movedim(-1, 1)
    sure, classes = logits.masked_fill(ruled_out, -math.inf).softmax(1).max(1)
    return classes, sure


def is_coarse(labels: Labels, num_classes: int) -> Labels:
    """Return where labels stand for a group of classes."""
    return (labels >= num_classes) & (labels < NOVEL)

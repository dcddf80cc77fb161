# SPDX-License-Identifier: Apache-2.0
"""Pixel-wise energy-biased abstention learning, PEBAL (Tian et al., ECCV 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from multishift_perception.classes import NOVEL
from multishift_training.datasets import Batch, TrainingData
from multishift_training.datasets.config import Rising, Weight
from multishift_training.methods.method import Context, Method
from multishift_training.methods.outliers import (
    check_classifies_pixels,
    check_outliers,
    pixel_classifier,
    read_classifier,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multishift_training.models import Prediction, SegmentationModel

# As released, of the Gaussian that smooths the penalty over pixels.
_SIDE, _SIGMA = 7, 1.0


class Pebal(Method):
    """A classifier that may abstain, and pays for it by its own energy; hinges on the energies.

    The score is the energy of the classifier, which takes the place of the uncertainty head. The
    logit of abstention serves training alone.

    Attributes:
        margins: energies of known pixels are to stay below the first, those of outliers above the
            second; in units of the logits, which are those of the network that it starts from.
        energy: weight of hinges, sparsity and smoothness together.
        outliers: weight of the abstention loss at outliers. (What was released first weights them
            so; a later change takes the logarithm twice, which leaves a constant: as 0 here.)
        sparsity: of the norm of the outliers' energies, a share of ``energy``.
        smoothness: of the squared differences of neighbours' energies, a sum over the batch, a
            share of ``energy``.
    """

    kind: Literal['pebal']
    margins: Annotated[tuple[float, float], Rising] = (-12.0, -6.0)
    energy: Weight = 0.1
    outliers: Weight = 0.1
    sparsity: Weight = 5e-4
    smoothness: Weight = 3e-6

    def check_data(self, data: TrainingData) -> None:
        """See that there are outliers."""
        check_outliers(data, self.kind)

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that the network classifies pixels."""
        check_classifies_pixels(model, name, self.kind)

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Make the score the classifier's energy."""
        read_classifier(model, energy)
        return model

    def make_state(self, model: SegmentationModel) -> nn.Module:
        """Return what says the logit of abstention, of the feature; starts as released."""
        from torch import nn

        classifier = pixel_classifier(model)
        assert classifier is not None
        abstention = nn.Conv2d(classifier.in_channels, 1, 1, bias=classifier.bias is not None)
        nn.init.kaiming_normal_(abstention.weight)
        if abstention.bias is not None:
            nn.init.zeros_(abstention.bias)
        return abstention

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the losses of abstention and of energies; parts without a pixel are 0."""
        from multishift_training.losses.noise_aware import health, pixel_cross_entropy

        gather, logits = context.gather, prediction.logits
        assert context.state is not None
        size = (batch.labels.shape[1], batch.labels.shape[2])
        abstaining = context.model.enlarge(context.state(prediction.feature), size)[:, 0]
        of_label = -pixel_cross_entropy(logits, batch.labels, groups=context.groups)
        each = _abstention(logits, abstaining, of_label, batch.labels == NOVEL)
        labels, energies, each = (
            gather(values) for values in (batch.labels, energy(logits), each)
        )
        # Void pixels count in few terms.
        healths = gather(health(logits) + health(abstaining)).sum()
        parts = self._energies(energies, labels)
        return {
            'abstention': self._mean_abstention(each, labels) + healths,
            **{f'energy_{k}': self.energy * v for k, v in parts._asdict().items()},
        }

    def _mean_abstention(self, each: Tensor, labels: Tensor) -> Tensor:
        """Return the means as released: images with outliers and those without count alike."""
        known, novel = labels < NOVEL, labels == NOVEL
        mixed = novel.flatten(1).any(1)[:, None, None]
        return (
            _mean(each, known & ~mixed)
            + _mean(each, known & mixed)
            + self.outliers * _mean(each, novel)
        )

    def _energies(self, energies: Tensor, labels: Tensor) -> EnergyTerms:
        import torch
        from torch.nn import functional as F

        low, high = self.margins
        known, novel = labels < NOVEL, labels == NOVEL
        # Without an outlier, the known pixels' mean has all of the weight.
        share = torch.where(novel.any(), 0.5, 1.0)
        squares = torch.where(novel, energies, 0).square().sum()
        rooted = squares > 0  # at 0 a root has no gradient
        down, right = (energies.diff(dim=axis).square().sum() for axis in (1, 2))
        return EnergyTerms(
            share * _mean(F.relu(energies - low).square(), known),
            share * _mean(F.relu(high - energies).square(), novel),
            self.sparsity * torch.where(rooted, squares, 1).sqrt() * rooted,
            self.smoothness * (down + right) / 2,
        )


class EnergyTerms(NamedTuple):
    """The parts of the energy loss, scalars."""

    known: Tensor
    novel: Tensor
    sparsity: Tensor
    smoothness: Tensor


def energy(logits: Tensor) -> Tensor:
    """Return ``-logsumexp_c logits`` ``[B,h,w]`` of logits ``[B,C,h,w]``."""
    return -logits.logsumexp(1)


def _abstention(logits: Tensor, abstaining: Tensor, of_label: Tensor, novel: Tensor) -> Tensor:
    """Return what abstention learning loses at each pixel ``[B,h,w]``.

    ``-log(p_y + p_abstain / a)`` at label y, and the mean of that over all classes at outliers.
    The penalty a is the squared energy, smoothed over pixels. Below 1, which the release does not
    forbid, to abstain would pay more than to be right: it is 1 at least.

    Args:
        logits: ``[B,C,h,w]``.
        abstaining: logit of abstention, ``[B,h,w]``.
        of_label: log-likelihood of the label among the C classes, ``[B,h,w]``; any where there is
            no label.
        novel: where outliers are, ``bool [B,h,w]``.
    """
    import torch
    from torch.nn import functional as F

    from multishift_training.models.layers import gaussian, smoothed
    from multishift_training.models.precision import in_full

    logits = in_full(logits)
    total = logits.logsumexp(1)
    window = gaussian(_SIDE, _SIGMA, total)
    penalty = smoothed(total.square(), window).clamp(min=1)
    lead = abstaining - total  # log odds of abstention
    stays, abstains = -F.softplus(lead), -F.softplus(-lead) - penalty.log()
    at_label = -torch.logaddexp(of_label + stays, abstains)
    of_all = logits - (total - stays)[:, None]
    at_outlier = -torch.logaddexp(of_all, abstains[:, None]).mean(1)
    return torch.where(novel, at_outlier, at_label)


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    """Return the mean where something counts; 0 where nothing does."""
    import torch

    return torch.where(counts, values, 0).sum() / counts.sum().clamp(min=1)

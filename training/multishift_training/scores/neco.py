# SPDX-License-Identifier: Apache-2.0
"""NECO (Ben Ammar et al., ICLR 2024) beside the energy: features off the known directions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.errors import MultishiftError
from multishift_training.models import Prediction
from multishift_training.scores.feature_sample import FeatureSample
from multishift_training.scores.fitted import FittedScore, enlarged
from multishift_training.scores.logits import energy

# Known pixels that it is fitted on.
_SAMPLE = 1 << 14
# Share of the energy in the score; half of it as that of the features is a choice of ours.
_ENERGY = 0.5


class Neco(FittedScore):
    """How little of a feature lies in the principal directions of known ones, and the energy.

    The features of C classes collapse towards C - 1 directions, the principal ones. NECO is the
    share ``|P (f - m)| / |f - m|`` of a feature's length in them, which the paper multiplies by
    the largest logit. Logits of segmentation may be of either sign: here, both share and energy
    are standardised on known pixels and averaged, as a later form for segmentation does.
    """

    def __init__(self, mean: Tensor, directions: Tensor, shares: Tensor, energies: Tensor) -> None:
        """Make the score of fitted statistics; see `NecoFit`.

        Args:
            mean: of the features, ``float64 [D]``.
            directions: the principal ones, orthonormal, ``float64 [P,D]``.
            shares: mean and standard deviation of the share in them, ``float64 [2]``.
            energies: of the energy, ``float64 [2]``.
        """
        super().__init__()
        self.statistics = {
            'mean': mean,
            'directions': directions,
            'shares': shares,
            'energies': energies,
        }
        self.mean: Tensor
        self.directions: Tensor
        self.register_buffer('mean', mean.float().view(1, -1, 1, 1))
        self.register_buffer('directions', directions.float()[:, :, None, None])
        self._shares = shares.tolist()
        self._energies = energies.tolist()

    @classmethod
    def fitting(cls) -> NecoFit:
        """See ``FittedScore``."""
        return NecoFit()

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the score ``float32 [B,H,W]``; the share is upsampled to the logits' size.

        Raises:
            MultishiftError: the features have another number of channels than the fitted ones.
        """
        self.check_channels(prediction, self.mean.shape[1])
        away = prediction.feature - self.mean
        share = enlarged(_share(F.conv2d(away, self.directions), away, dim=1), prediction)
        (mean, deviation), (level, spread) = self._shares, self._energies
        off, high = (mean - share) / deviation, (energy(prediction) - level) / spread
        score: Tensor = (1 - _ENERGY) * off + _ENERGY * high
        return score

    @staticmethod
    def fault(statistics: dict[str, Tensor]) -> str | None:
        """See ``FittedScore``."""
        if statistics.keys() != {'mean', 'directions', 'shares', 'energies'}:
            return f'it has {", ".join(sorted(statistics)) or "no tensor"}'
        for name, tensor in statistics.items():
            if tensor.dtype != torch.float64 or not tensor.isfinite().all():
                return f'{name} is not finite float64'
        mean, directions = statistics['mean'], statistics['directions']
        if mean.ndim != 1 or directions.ndim != 2 or directions.shape[1] != len(mean):
            return f'mean {list(mean.shape)} and directions {list(directions.shape)} do not fit'
        for name in ('shares', 'energies'):
            if statistics[name].shape != (2,) or not statistics[name][1] > 0:
                return f'{name} is no mean and deviation'
        return None


class NecoFit:
    """Gathers features of known pixels, with their energies."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._sample = FeatureSample(_SAMPLE)
        self._classes = 0

    def update(self, prediction: Prediction, labels: Tensor) -> None:
        """Add a batch; ``labels`` are integers 0..255 ``[B,H,W]``."""
        self._classes = prediction.logits.shape[1]
        self._sample.update(prediction, labels, energy(prediction)[:, None])

    def result(self) -> Neco:
        """Return the fitted score.

        Raises:
            MultishiftError: there was no known pixel, or features or energies that do not vary.
        """
        rows = self._sample.rows('neco')
        features, energies = rows[:, :-1], rows[:, -1]
        mean = features.mean(0)
        away = features - mean
        count = min(self._classes - 1, len(mean) - 1)
        _, vectors = torch.linalg.eigh(away.T @ away)  # in ascending order
        directions = vectors.T[len(mean) - count :].flip(0)
        share = _share(away @ directions.T, away, dim=1)
        return Neco(mean, directions, _moments('features', share), _moments('energies', energies))


def _share(inside: Tensor, whole: Tensor, dim: int) -> Tensor:
    """Return how much of a vector's length is inside; of none, nothing."""
    length = torch.linalg.vector_norm(whole, dim=dim).clamp(min=torch.finfo(whole.dtype).tiny)
    share: Tensor = torch.linalg.vector_norm(inside, dim=dim) / length
    return share


def _moments(name: str, values: Tensor) -> Tensor:
    """Return mean and standard deviation, ``[2]``."""
    deviation, mean = torch.std_mean(values, correction=0)
    if not deviation > 0:
        raise MultishiftError(
            f'the score neco needs {name} that vary among known pixels: fit it on more frames'
        )
    return torch.stack([mean, deviation])

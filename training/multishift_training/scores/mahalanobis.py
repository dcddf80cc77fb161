# SPDX-License-Identifier: Apache-2.0
"""The Mahalanobis score (Lee et al., NeurIPS 2018): distance of a feature to the known classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.models import Prediction
from multishift_training.scores.fitted import FittedScore, check_finite, enlarged

# Pixels whose features are in float64 at a time.
_CHUNK = 1 << 16
# Features are float32: a direction with less than this share of the largest variance holds
# nothing but their rounding.
_MIN_VARIANCE = torch.finfo(torch.float32).eps ** 2


class Mahalanobis(FittedScore):
    """Gaussians over the features of each class, with one covariance for all.

    The score is ``min_c (f - mean_c)^T covariance^+ (f - mean_c)``, with the pseudo-inverse, as
    features behind a ReLU may well be constant in some directions.
    """

    def __init__(self, means: Tensor, covariance: Tensor) -> None:
        """Make the score of fitted statistics; see `MahalanobisFit`.

        Args:
            means: ``float64 [K,D]`` of the classes that were seen.
            covariance: ``float64 [D,D]``.

        Raises:
            MultishiftError: no feature varies.
        """
        super().__init__()
        self.statistics = {'means': means, 'covariance': covariance}
        variances, directions = torch.linalg.eigh(covariance)
        kept = variances > _MIN_VARIANCE * variances[-1]
        if not kept.any():
            raise MultishiftError(
                'the Mahalanobis score needs features that vary within classes: fit it on more '
                'frames'
            )
        whiten = directions[:, kept] / variances[kept].sqrt()
        # Distances come from inner products: the smaller these are, the less is rounded away.
        center = means.mean(0)
        self.center: Tensor
        self.whiten: Tensor
        self.whitened_means: Tensor
        self.register_buffer('center', center.float().view(1, -1, 1, 1))
        self.register_buffer('whiten', whiten.T[:, :, None, None].float())
        self.register_buffer('whitened_means', ((means - center) @ whiten).float())

    @classmethod
    def fitting(cls) -> MahalanobisFit:
        """See ``FittedScore``."""
        return MahalanobisFit()

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the score ``float32 [B,H,W]``, upsampled bilinearly to the size of the logits.

        Raises:
            MultishiftError: the features have another number of channels than the fitted ones.
        """
        self.check_channels(prediction, self.center.shape[1])
        white = F.conv2d(prediction.feature - self.center, self.whiten)
        means = self.whitened_means
        # |w - m|^2 - |w|^2 for each class, without a tensor of classes times channels.
        relative = means.square().sum(1).view(1, -1, 1, 1) - 2 * F.conv2d(
            white, means[:, :, None, None]
        )
        distance = (relative.amin(1) + white.square().sum(1)).clamp(0)
        return enlarged(distance, prediction)

    @staticmethod
    def fault(statistics: dict[str, Tensor]) -> str | None:
        """See ``FittedScore``."""
        if statistics.keys() != {'means', 'covariance'}:
            return f'it has {", ".join(sorted(statistics)) or "no tensor"}'
        means, covariance = statistics['means'], statistics['covariance']
        channels = means.shape[-1] if means.ndim else 0
        if means.ndim != 2 or not means.numel() or covariance.shape != (channels, channels):
            return f'means {list(means.shape)} and covariance {list(covariance.shape)} do not fit'
        for name, tensor in statistics.items():
            if tensor.dtype != torch.float64 or not tensor.isfinite().all():
                return f'{name} is not finite float64'
        return None


class MahalanobisFit:
    """Gathers the statistics in one pass, in memory that does not grow with the data."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._origin: Tensor | None = None
        self._counts: Tensor
        self._sums: Tensor
        self._products: Tensor

    @torch.no_grad()
    def update(self, prediction: Prediction, labels: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: its logits tell the number of classes.
            labels: integers 0..255 ``[B,H,W]``, of which the features see every so many (nearest);
                ``NOVEL`` and ``VOID`` do not count.

        Raises:
            MultishiftError: a label is neither a known class nor one of these.
        """
        classes = prediction.logits.shape[1]
        size = prediction.feature.shape[2:]
        for feature, truth in zip(prediction.feature, labels, strict=True):
            nearest = F.interpolate(truth[None, None].float(), size, mode='nearest-exact').long()
            known = (nearest != NOVEL) & (nearest != VOID)
            seen = nearest[known]
            if not seen.numel():
                continue
            if seen.max() >= classes:
                raise MultishiftError(
                    f'label {int(seen.max())} is no class of a network of {classes} classes: '
                    f'fit on labels 0..{classes - 1}, {NOVEL} (novel) and {VOID} (void), not on '
                    'the groups of a coarse data set'
                )
            features = feature.flatten(1).T[known.flatten()]
            for part, label in zip(
                torch.split(features, _CHUNK), torch.split(seen, _CHUNK), strict=True
            ):
                self._add(part.double(), label, classes)

    def result(self) -> Mahalanobis:
        """Return the fitted score; classes without a pixel are left out.

        Raises:
            MultishiftError: no pixel of a known class was seen, or some feature was not finite.
        """
        if self._origin is None:
            raise MultishiftError(
                'the Mahalanobis score saw no pixel of a known class: fit it on labelled frames'
            )
        counts = self._counts[self._counts > 0, None]
        means = self._sums[self._counts > 0] / counts
        covariance = (self._products - (means * counts).T @ means) / counts.sum()
        check_finite(covariance)
        return Mahalanobis((means + self._origin).cpu(), covariance.cpu())

    def _add(self, features: Tensor, labels: Tensor, classes: int) -> None:
        """Add ``features [n,D]`` with ``labels [n]``, n > 0."""
        if self._origin is None:
            # Sums of squares far from the origin would lose the variance to rounding.
            self._origin = features.mean(0)
            channels = features.shape[1]
            self._counts = labels.new_zeros(classes)
            self._sums = features.new_zeros(classes, channels)
            self._products = features.new_zeros(channels, channels)
        features -= self._origin
        self._counts += torch.bincount(labels, minlength=classes)
        self._sums.index_add_(0, labels, features)
        self._products.addmm_(features.T, features)

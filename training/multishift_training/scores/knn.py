# SPDX-License-Identifier: Apache-2.0
"""Distance to the nearest known features (Sun et al., ICML 2022; dense: Galesso et al., 2023)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_training.models import Prediction
from multishift_training.scores.feature_sample import FeatureSample
from multishift_training.scores.fitted import FittedScore, enlarged

# Known pixels whose features are kept, and which of the nearest tells: choices of ours, as the
# papers' go by their data sets' sizes.
_SAMPLE = 1 << 14
_NEIGHBOUR = 10
# Pixels that are compared with all of these at a time.
_CHUNK = 1 << 12


class NearestNeighbours(FittedScore):
    """The distance between a feature's direction and the tenth nearest of a sample of known ones.

    Features are scaled to length 1; the distance is from 0 to 2.
    """

    def __init__(self, known: Tensor) -> None:
        """Make the score of a sample.

        Args:
            known: features of length 1, ``float32 [n,D]``.
        """
        super().__init__()
        self.statistics = {'known': known}
        self.known: Tensor
        self.register_buffer('known', known)

    @classmethod
    def fitting(cls) -> NearestNeighboursFit:
        """See ``FittedScore``."""
        return NearestNeighboursFit()

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the score ``float32 [B,H,W]``, upsampled bilinearly to the size of the logits.

        Raises:
            MultishiftError: the features have another number of channels than the sample.
        """
        self.check_channels(prediction, self.known.shape[1])
        rows = F.normalize(prediction.feature, dim=1).movedim(1, -1)
        count = min(_NEIGHBOUR, len(self.known))
        # Of vectors of length 1: |a - b|^2 = 2 - 2 a.b.
        nearest = [
            (part @ self.known.T).topk(count, dim=1).values[:, -1]
            for part in torch.split(rows.flatten(0, -2), _CHUNK)
        ]
        distance = (2 - 2 * torch.cat(nearest)).clamp(min=0).sqrt().view(rows.shape[:-1])
        return enlarged(distance, prediction)

    @staticmethod
    def fault(statistics: dict[str, Tensor]) -> str | None:
        """See ``FittedScore``."""
        if statistics.keys() != {'known'}:
            return f'it has {", ".join(sorted(statistics)) or "no tensor"}'
        known = statistics['known']
        if known.ndim != 2 or not known.numel():
            return f'known is {list(known.shape)}'
        if known.dtype != torch.float32 or not known.isfinite().all():
            return 'known is not finite float32'
        return None


class NearestNeighboursFit:
    """Gathers a sample of the features of known pixels."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._sample = FeatureSample(_SAMPLE)

    def update(self, prediction: Prediction, labels: Tensor) -> None:
        """Add a batch; ``labels`` are integers 0..255 ``[B,H,W]``."""
        self._sample.update(prediction, labels)

    def result(self) -> NearestNeighbours:
        """Return the fitted score.

        Raises:
            MultishiftError: no known pixel was seen, or some feature was not finite.
        """
        return NearestNeighbours(F.normalize(self._sample.rows('knn'), dim=1).float())

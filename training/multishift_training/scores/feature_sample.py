# SPDX-License-Identifier: Apache-2.0
"""A random sample of the features of known pixels, in memory that does not grow with the data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.models import Prediction
from multishift_training.scores.fitted import check_finite


class FeatureSample:
    """Keeps as many known pixels as asked, each seen with the same chance (reservoir sampling)."""

    def __init__(self, count: int) -> None:
        """Start with nothing seen.

        Args:
            count: how many are kept at most.
        """
        self._count = count
        # Each pixel draws a number; those of the smallest are kept.
        self._generator = torch.Generator().manual_seed(0)
        self._numbers = torch.empty(0)
        self._rows: Tensor | None = None

    @torch.no_grad()
    def update(self, prediction: Prediction, labels: Tensor, beside: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            prediction: its features.
            labels: integers 0..255 ``[B,H,W]``, of which the features see every so many
                (nearest); novel and void ones do not count.
            beside: further channels ``[B,N,H,W]`` of the same pixels, kept behind the features.
        """
        size = prediction.feature.shape[2:]
        nearest = F.interpolate(labels[:, None].float(), size, mode='nearest-exact')[:, 0]
        channels = prediction.feature
        if beside is not None:
            beside = F.interpolate(beside, size, mode='nearest-exact')
            channels = torch.cat([channels, beside], 1)
        self._add(channels.movedim(1, -1)[nearest < NOVEL].float())

    def rows(self, score: str) -> Tensor:
        """Return what was kept, ``float64 [n,D]``, on the CPU.

        Args:
            score: name of the score that it is for, in messages.

        Raises:
            MultishiftError: no known pixel was seen, or some feature was not finite.
        """
        if self._rows is None or not len(self._rows):
            raise MultishiftError(
                f'the score {score} saw no pixel of a known class: fit it on labelled frames'
            )
        check_finite(self._rows)
        return self._rows.double()

    def _add(self, rows: Tensor) -> None:
        numbers = torch.rand(len(rows), generator=self._generator)
        if self._rows is None:
            self._rows = rows.new_empty(0, rows.shape[1], device='cpu')
        if len(self._rows) == self._count:  # most of what comes is above the largest kept
            chosen = numbers < self._numbers.max()
            numbers, rows = numbers[chosen], rows[chosen.to(rows.device)]
        numbers = torch.cat([self._numbers, numbers])
        kept = numbers.argsort()[: self._count]
        self._numbers = numbers[kept]
        self._rows = torch.cat([self._rows, rows.cpu()])[kept]

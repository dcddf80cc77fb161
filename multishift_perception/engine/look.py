# SPDX-License-Identifier: Apache-2.0
"""How frames look: how far statistics of an early feature lie from those of the training images.

A frame's statistics are the mean and the standard deviation of each channel over the image. They
tell light, weather and camera, and little of what is seen. Their distance from a set of images is
Mahalanobis's, as of features in Lee et al. (NeurIPS 2018), to the nearest of the set's domains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import read_archive
from multishift_perception.errors import MultishiftError

# Frames of a domain that its own distance is to be 1 for, of those that were not fitted on.
QUANTILE = 0.99
LEAST_FRAMES = 20
_FOLDS = 5
# Of a channel that hardly changes, a part of the typical one's spread.
_LEAST_SPREAD = 0.02

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """Where the statistics of some domains lie.

    Attributes:
        means: ``float32 [G,K]``, of each domain's K statistics.
        whitenings: ``float32 [G,K,K]``; a matrix times what a frame has more than the mean has
            the frame's distance as its length, which 99 % of the domain's frames have below 1.
    """

    means: Rows
    whitenings: Rows

    @classmethod
    def fit(cls, statistics: Mapping[str, Rows]) -> Look:
        """Fit a Gaussian to each domain.

        Its covariance is shrunk as Ledoit & Wolf (2004) do. That of few frames fits these better
        than any others: the unit is set by distances of frames that were left out, a fifth each
        time, neighbours in the footage together.

        Args:
            statistics: by name of a domain, of its frames in the order of the footage,
                ``float32 [F,K]``.

        Raises:
            MultishiftError: a domain has fewer than 20 frames.
        """
        fitted = [_fit_domain(name, rows.astype(np.float64)) for name, rows in statistics.items()]
        means, whitenings = zip(*fitted, strict=True)
        return cls(np.stack(means).astype(np.float32), np.stack(whitenings).astype(np.float32))

    def distances(self, statistics: Rows) -> NDArray[np.float32]:
        """Return how far frames lie from the nearest domain, ``float32 [F]`` of ``[F,K]``."""
        apart = statistics[None] - self.means[:, None]
        return np.asarray(
            np.linalg.norm(apart @ self.whitenings.transpose(0, 2, 1), axis=2).min(0), np.float32
        )

    def save(self, path: Path) -> None:
        """Write a NumPy archive."""
        np.savez_compressed(path, means=self.means, whitenings=self.whitenings)

    @classmethod
    def load(cls, path: Path) -> Look:
        """Read an archive; raises MultishiftError where the file is none."""
        try:
            arrays = read_archive(path)
            look = cls(arrays['means'], arrays['whitenings'])
        except (OSError, ValueError, KeyError) as error:
            raise MultishiftError(
                f'{path} holds no statistics of looks ({error}): build the bundle again'
            ) from None
        groups, size = look.means.shape
        if look.whitenings.shape != (groups, size, size):
            raise MultishiftError(
                f'{path}: whitenings are {look.whitenings.shape}, means {look.means.shape}: '
                'build the bundle again'
            )
        return look


def _fit_domain(
    name: str, rows: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(rows) < LEAST_FRAMES:
        raise MultishiftError(
            f'{name}: {len(rows)} frames tell too little of how frames look: '
            f'give {LEAST_FRAMES}, better some hundred'
        )
    left_out = []
    for part in np.array_split(np.arange(len(rows)), _FOLDS):
        mean, whitening = _whiten(np.delete(rows, part, axis=0))
        left_out.append(np.linalg.norm((rows[part] - mean) @ whitening.T, axis=1))
    unit = float(np.quantile(np.concatenate(left_out), QUANTILE))
    mean, whitening = _whiten(rows)
    # Frames that are all alike, as of a camera that stands still, have no unit of their own.
    return mean, whitening / max(unit, 1.0)


def _whiten(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and whitening matrix, unscaled."""
    mean, spread = rows.mean(0), rows.std(0)
    spread = np.maximum(spread, max(_LEAST_SPREAD * float(np.median(spread)), 1e-6))
    scaled = (rows - mean) / spread
    covariance = _shrunk(scaled)
    values, vectors = np.linalg.eigh(covariance)
    return mean, (vectors / np.sqrt(np.maximum(values, 1e-9))).T / spread


def _shrunk(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance of centred rows, drawn to a multiple of the identity."""
    count, size = rows.shape
    covariance = rows.T @ rows / count
    scale = float(np.trace(covariance)) / size
    target = max(scale, 1e-9) * np.eye(size)
    far = float(np.square(covariance - target).sum())
    scatter = float(np.square(np.square(rows).sum(1)).mean() - np.square(covariance).sum()) / count
    share = 1.0 if far <= 0 else float(np.clip(scatter / far, 1e-3, 1.0))
    return np.asarray((1 - share) * covariance + share * target)

# SPDX-License-Identifier: Apache-2.0
"""Instance-selective whitening (RobustNet, Choi et al., CVPR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from multishift_training.models.precision import in_full


def covariance(x: Tensor) -> Tensor:
    """Return the covariances of standardised channels, ``[B,C,C]``, of ``x [B,C,h,w]``."""
    points = in_full(x).flatten(2)
    return points @ points.transpose(1, 2) / max(points.shape[2] - 1, 1)


def covariance_variance(one: Tensor, other: Tensor) -> Tensor:
    """Return how much covariances vary between an image and another look of it (Eq. 8).

    Args:
        one: standardised, ``[B,C,h,w]``.
        other: of the same images, changed.

    Returns:
        The variance of both ``[B,C,C]``, above the diagonal; 0 elsewhere.
    """
    return ((covariance(one) - covariance(other)).square() / 2).triu(1)


def sensitive(variances: Tensor, clusters: int) -> Tensor:
    """Return which covariances are to go: all but the cluster of the least variances.

    Clusters are those of k-means (Lloyd's algorithm, from centres at equal distances); as
    released, the zeros on and below the diagonal are clustered too.

    Args:
        variances: ``[C,C]``, 0 on and below the diagonal.
        clusters: how many, 2 or more.

    Returns:
        ``bool [C,C]``.
    """
    values = variances.double().flatten()
    shares = torch.linspace(0, 1, clusters, dtype=values.dtype, device=values.device)
    centres = values.min() + shares * (values.max() - values.min())
    for _ in range(100):
        nearest = torch.bucketize(values, (centres[1:] + centres[:-1]) / 2)
        counts = torch.bincount(nearest, minlength=clusters)
        sums = torch.zeros_like(centres).index_add(0, nearest, values)
        found = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
        if torch.equal(found, centres):
            break
        centres = found
    return (nearest > 0).view_as(variances).triu(1)


def whitening(x: Tensor, mask: Tensor) -> Tensor:
    """Return of each image the mean of the absolute covariances that are to go (Eq. 11), ``[B]``.

    Args:
        x: standardised, ``[B,C,h,w]``.
        mask: ``bool [C,C]``; without any, it is 0.
    """
    masked = covariance(x).abs() * mask
    return masked.sum((1, 2)) / mask.sum().clamp(min=1)

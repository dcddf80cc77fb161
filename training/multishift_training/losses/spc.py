# SPDX-License-Identifier: Apache-2.0
"""The losses of style projected clustering, and how its bases move (Huang et al., CVPR 2023).

All are of sums over the pixels of an image: what processes need of each other is small.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ClusterSums(NamedTuple):
    """What each image says of its classes.

    Attributes:
        counts: pixels of a class, ``[B,C]``.
        embeddings: their sum over those, ``[B,C,D]``.
        spread: sum of the squared cosine distances to the base of class and domain, ``[B,C]``.
    """

    counts: Tensor
    embeddings: Tensor
    spread: Tensor


class ClusterTerms(NamedTuple):
    """The losses, scalars and not weighted, and what the bases move towards.

    Attributes:
        variance: mean over classes and domains of the squared cosine distance of pixels to their
            base (Eq. 10 of the paper).
        discrimination: the same of how little the mean of class and domain is told from the bases
            of other classes (Eq. 11).
        means: of length 1, ``[M,C,D]``, without gradient; 0 where a domain lacks a class.
        present: whether it does not, ``bool [M,C]``.
    """

    variance: Tensor
    discrimination: Tensor
    means: Tensor
    present: Tensor


def cluster_sums(
    embeddings: Tensor, labels: Tensor, bases: Tensor, domains: Tensor
) -> ClusterSums:
    """Return the sums over the pixels of each image.

    Args:
        embeddings: of length 1, ``[B,D,h,w]``.
        labels: ``int64 [B,h,w]``; what is none of C classes does not count.
        bases: of length 1, ``[M,C,D]``.
        domains: of the images, ``int64 [B]``.
    """
    classes = torch.arange(bases.shape[1], device=labels.device)
    is_of = (labels[:, None] == classes[:, None, None]).flatten(2).to(embeddings)
    points = embeddings.flatten(2)
    distance = 1 - bases[domains].to(points) @ points
    return ClusterSums(
        is_of.sum(2), is_of @ points.transpose(1, 2), (distance.square() * is_of).sum(2)
    )


def cluster_terms(
    sums: ClusterSums, bases: Tensor, domains: Tensor, *, temperature: float
) -> ClusterTerms:
    """Return the losses over a whole batch; a domain without a class adds 0.

    Both are divided by the number of classes times that of domains, whichever there are, as
    released. So is the positive of the discrimination: the mean cosine to the bases of the class,
    where the paper takes the mean of a loss for each of them.

    Args:
        sums: of the images.
        bases: of length 1, ``[M,C,D]``; they get no gradient.
        domains: of the images, ``int64 [B]``.
        temperature: of the cosines.
    """
    places = F.one_hot(domains, len(bases)).T.to(sums.counts)
    counts = places @ sums.counts
    present, divisor = counts > 0, counts.clamp(min=1)
    spread = (places @ sums.spread) / divisor
    totals = torch.einsum('mb,bcd->mcd', places, sums.embeddings)
    means = F.normalize(totals / divisor[..., None], dim=-1)
    # To the bases of domain n and class k, from the mean of domain m and class c.
    cosines = torch.einsum('mcd,nkd->mcnk', means, bases.to(means)) / temperature
    positive = cosines.diagonal(dim1=1, dim2=3).mean(1)
    own = torch.eye(bases.shape[1], dtype=torch.bool, device=bases.device)
    negative = cosines.masked_fill(own[:, None], -torch.inf).flatten(2)
    rivals = torch.cat([positive[..., None], negative], -1).logsumexp(-1)
    discrimination = torch.where(present, rivals - positive, 0)
    return ClusterTerms(
        spread.sum() / present.numel(),
        discrimination.sum() / present.numel(),
        torch.where(present[..., None], means, 0).detach(),
        present,
    )


def means_of_domains(values: Tensor, domains: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean over the images of each domain ``[M,...]``, and which have some, ``[M]``.

    Args:
        values: of the images, ``[B,...]``.
        domains: ``int64 [B]``.
        count: M.
    """
    places = F.one_hot(domains, count).T.to(values)
    images = places.sum(1)
    means = (places @ values.flatten(1)) / images.clamp(min=1)[:, None]
    return means.reshape(count, *values.shape[1:]), images > 0


def moved(old: Tensor, new: Tensor, where: Tensor, momentum: float | Tensor) -> Tensor:
    """Return the moving average ``momentum * old + (1 - momentum) * new``, where there is one.

    Args:
        old: ``[M,...]``.
        new: of its shape.
        where: which to move, ``bool`` of its first dimensions.
        momentum: share of itself that a base keeps.
    """
    where = where.reshape(*where.shape, *(1,) * (old.ndim - where.ndim))
    return torch.where(where, momentum * old + (1 - momentum) * new.to(old), old)

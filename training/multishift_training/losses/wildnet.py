# SPDX-License-Identifier: Apache-2.0
"""Content extension and semantic consistency (WildNet, Lee et al., CVPR 2022)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from multishift_perception.classes import NOVEL
from multishift_training.models.precision import in_full

_TEMPERATURE = 0.07
_FEW = 1e-5
# Contents that are compared at once: the similarities of all of them may not fit into memory.
_AT_ONCE = 4096


class ContentTerms(NamedTuple):
    """Of each image, ``[B]``: the contrast to the image in another style, and to the wild."""

    source: Tensor
    wild: Tensor


def content_extension(
    embeddings: Tensor,
    styled: Tensor,
    labels: Tensor,
    contents: Tensor,
    *,
    compare_in: torch.dtype | None = None,
) -> ContentTerms:
    """Return how far pixels are from themselves in another style, and from what is like that.

    A pixel is to be nearer to its own place in the other style than to what is of other classes
    there; and so it is to be to the content of the wild that is nearest to that place. Each term
    is the mean over the pixels of a known class, 0 without any.

    Args:
        embeddings: of N pixels, unit vectors ``[B,N,D]``.
        styled: of the same pixels in another style, likewise.
        labels: ``int64 [B,N]``; novel and void pixels are no anchors, and nothing is held against
            them.
        contents: of the wild, unit vectors ``[Q,D]``; without gradient.
        compare_in: the type in which the nearest is sought; that of ``styled``, if not given.
    """
    known = labels < NOVEL
    alike = labels[:, :, None] == labels[:, None]
    logits = (embeddings @ styled.mT).clamp(-1, 1) / _TEMPERATURE
    own = torch.eye(labels.shape[1], dtype=torch.bool, device=labels.device)
    # As published, what is of the same class counts as what is least like it, and not as nothing.
    left_out = (alike | ~known[:, None]) & ~own
    held = logits.masked_fill(left_out, -1 / _TEMPERATURE)
    source = held.logsumexp(2) - held.diagonal(dim1=1, dim2=2)
    with torch.no_grad():
        nearest = contents[_nearest(styled, contents, compare_in or styled.dtype)]
    positive = (embeddings * nearest).sum(2).clamp(-1, 1) / _TEMPERATURE
    others = logits.masked_fill(alike | ~known[:, None], -torch.inf)
    wild = torch.cat([positive[:, :, None], others], 2).logsumexp(2) - positive
    return ContentTerms(_mean(source, known), _mean(wild, known))


def _nearest(pixels: Tensor, contents: Tensor, compare_in: torch.dtype) -> Tensor:
    """Return which of ``contents [Q,D]`` is nearest to each of ``pixels [B,N,D]``, ``[B,N]``."""
    compared = pixels.to(compare_in)
    most, nearest = (compared @ contents[:_AT_ONCE].T.to(compare_in)).max(2)
    for start in range(_AT_ONCE, len(contents), _AT_ONCE):
        some = contents[start : start + _AT_ONCE]
        likeness, index = (compared @ some.T.to(compare_in)).max(2)
        nearer = likeness > most
        most = torch.where(nearer, likeness, most)
        nearest = torch.where(nearer, index + start, nearest)
    return nearest


def _mean(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, 0).sum(1) / (known.sum(1) + _FEW)


def consistency(logits: Tensor, styled: Tensor) -> Tensor:
    """Return the mean of ``p log(p / q)`` over pixels and classes, of each image ``[B]``.

    Args:
        logits: ``[B,C,H,W]``, of p.
        styled: of q, in another style.
    """
    own, other = (in_full(said).log_softmax(1) for said in (logits, styled))
    return (own.exp() * (own - other)).mean((1, 2, 3))

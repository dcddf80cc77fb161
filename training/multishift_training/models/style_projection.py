# SPDX-License-Identifier: Apache-2.0
"""Style projection (Huang et al., CVPR 2023, section 3.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from multishift_training.models.noted import Noted
from multishift_training.models.precision import in_full

_EPSILON = 1e-6  # of variances, as released

Weighting = Literal['weighted', 'nearest', 'none']


class StyleProjection(nn.Module):
    """Gives a feature, in the place of its own style, a mixture of those of known domains.

    A style is mean and standard deviation of each channel over an image. The known ones, the
    bases, are buffers: a method moves them.

    Attributes:
        bases: means and deviations of M domains, ``[M,2,C]``.
        noted: of the last forward pass, the styles of its images, ``[B,2,C]``; no gradient.
    """

    bases: Tensor

    def __init__(self, channels: int, domains: int, weighting: Weighting = 'weighted') -> None:
        """Make a projection with random bases, as released: means near 0, deviations 1.

        Args:
            channels: of the feature.
            domains: M.
            weighting: how bases are mixed: by their distance, the ``nearest`` alone, or not at
                all (``none``), which leaves the normalised feature.
        """
        super().__init__()
        means = nn.init.normal_(torch.empty(domains, channels), std=0.02)
        self.register_buffer('bases', torch.stack([means, torch.ones(domains, channels)], 1))
        self.noted = Noted()
        self._weighting = weighting

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x [B,C,h,w]`` in its new style."""
        full = in_full(x)
        mean, deviation = style_of(full.detach())
        self.noted.put(torch.stack([mean, deviation], 1))
        centred = (full - mean[:, :, None, None]) / deviation[:, :, None, None]
        if self._weighting != 'none':
            style = self.mixed(mean, deviation)
            centred = centred * style[:, 1, :, None, None] + style[:, 0, :, None, None]
        return centred.to(x.dtype)

    def mixed(self, mean: Tensor, deviation: Tensor) -> Tensor:
        """Return the mixture of the bases for styles ``[B,C]``, ``[B,2,C]`` (Eq. 3 to 6)."""
        bases = self.bases.to(mean)
        near = 1 / (1 + style_distance(mean, deviation, bases))
        weights = near.softmax(1)
        if self._weighting == 'nearest':
            weights = (near >= near.amax(1, keepdim=True)).to(near)
            weights = weights / weights.sum(1, keepdim=True)
        # Not a matrix product, which engines compute in fewer bits.
        return (weights[:, :, None, None] * bases).sum(1)


def style_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the unbiased standard deviation of ``x [B,C,h,w]``, each ``[B,C]``."""
    count = x.shape[2] * x.shape[3]
    mean = x.mean((2, 3), keepdim=True)
    variance = (x - mean).square().mean((2, 3)) * (count / max(count - 1, 1))
    return mean[:, :, 0, 0], (variance + _EPSILON).sqrt()


def style_distance(mean: Tensor, deviation: Tensor, bases: Tensor) -> Tensor:
    """Return the distances ``[B,M]`` of styles to bases.

    The squared 2-Wasserstein distance of Gaussians with independent channels (Eq. 2), by the mean
    over channels, as released: the paper's sum saturates.

    Args:
        mean: ``[B,C]``.
        deviation: ``[B,C]``.
        bases: ``[M,2,C]``.
    """
    styles = torch.stack([mean, deviation], 1)[:, None]
    return (styles - bases).square().sum(2).mean(2)

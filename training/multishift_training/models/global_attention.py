# SPDX-License-Identifier: Apache-2.0
"""Attention of queries to the pixels inside or outside their own masks.

Mask2Former (Cheng et al., CVPR 2022, Eq. 2) lets a query attend to the foreground of the mask it
predicted so far; Mask2Anomaly (Rai et al., ICCV 2023, section 3.2) adds a second attention to the
background, so that a query also sees what its mask leaves out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention that broadcasts one mask over the heads.

    `nn.MultiheadAttention` computes the same, yet wants a copy of the mask for each head: its
    largest tensor by far, 8 x 100 x 32768 values for one image of 1024x2048.
    """

    def __init__(self, channels: int, heads: int) -> None:
        """Make an attention whose queries, keys, values and outputs have ``channels``."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attend.

        Args:
            query: ``[B,Q,D]``.
            key: ``[B,N,D]``.
            value: ``[B,N,D]``.
            mask: bool ``[B,Q,N]``, true where a query may look, at least once in each row; all
                may look everywhere when it is left out.

        Returns:
            ``[B,Q,D]``.
        """
        attended = F.scaled_dot_product_attention(
            self._split(self.query(query)),
            self._split(self.key(key)),
            self._split(self.value(value)),
            None if mask is None else mask.unsqueeze(1),
        )
        output: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return output

    def _split(self, x: Tensor) -> Tensor:
        batch, count, channels = x.shape
        return x.reshape(batch, count, self.heads, channels // self.heads).transpose(1, 2)


class AttentionMasks(NamedTuple):
    """Where queries may look: bool ``[B,Q,N]``, true where allowed."""

    foreground: Tensor
    background: Tensor


def attention_masks(mask_logits: Tensor) -> AttentionMasks:
    """Return where queries may look, given their masks so far.

    A pixel of probability 0.5 belongs to both sides. A query whose mask leaves one side empty
    looks everywhere with that side's attention, for a softmax over nothing has no value. No
    gradient passes.

    Args:
        mask_logits: ``[B,Q,N]``.
    """
    # Compared after the sigmoid, as published: logits of some 1e-8 round to 0.5 there.
    probabilities = mask_logits.sigmoid()
    return AttentionMasks(_never_empty(probabilities >= 0.5), _never_empty(probabilities <= 0.5))


def _never_empty(allowed: Tensor) -> Tensor:
    return allowed | ~allowed.any(-1, keepdim=True)


class ForegroundAttention(nn.Module):
    """Masked attention of Mask2Former: to the foreground alone."""

    def __init__(self, channels: int, heads: int, queries: int) -> None:
        """Make the attention; any number of ``queries`` suits it."""
        super().__init__()
        self.foreground = Attention(channels, heads)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, masks: AttentionMasks) -> Tensor:
        """Return ``[B,Q,D]`` of ``query [B,Q,D]``, ``key`` and ``value [B,N,D]``."""
        attended: Tensor = self.foreground(query, key, value, masks.foreground)
        return attended


class GlobalAttention(nn.Module):
    """Global masked attention of Mask2Anomaly: foreground and background, summed.

    ``fusion_weight`` and ``fusion_bias`` are read by nothing. The published networks carry them, a
    convolution tried in place of the sum; they are held so that such files load, and are saved,
    whole. As buffers, since no gradient ever reaches them, which DDP would wait for.
    """

    fusion_weight: Tensor
    fusion_bias: Tensor

    def __init__(self, channels: int, heads: int, queries: int) -> None:
        """Make both attentions for this number of ``queries``."""
        super().__init__()
        self.foreground = Attention(channels, heads)
        self.background = Attention(channels, heads)
        self.register_buffer('fusion_weight', torch.zeros(queries, 2 * queries, 1, 1))
        self.register_buffer('fusion_bias', torch.zeros(queries))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, masks: AttentionMasks) -> Tensor:
        """Return ``[B,Q,D]`` of ``query [B,Q,D]``, ``key`` and ``value [B,N,D]``."""
        foreground: Tensor = self.foreground(query, key, value, masks.foreground)
        background: Tensor = self.background(query, key, value, masks.background)
        return foreground + background

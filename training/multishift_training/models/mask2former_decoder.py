# SPDX-License-Identifier: Apache-2.0
"""Mask2Former's transformer decoder: queries that look for masks, coarse levels first.

`transformers` has one too. It keeps the masks of all layers at a quarter of the image's size,
copies attention masks for each head, and has no place for a second attention; this one serves
the networks of its folders and those of Mask2Anomaly alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from multishift_training.models.global_attention import (
    Attention,
    AttentionMasks,
    ForegroundAttention,
    GlobalAttention,
    attention_masks,
)


class DecoderLayer(nn.Module):
    """Attention to pixels, attention among queries, feed-forward; a norm after each."""

    def __init__(self, cross_attention: nn.Module, channels: int, heads: int, hidden: int) -> None:
        """Make a layer around ``cross_attention``; ``hidden`` is the width of the feed-forward."""
        super().__init__()
        self.cross_attention = cross_attention
        self.cross_norm = nn.LayerNorm(channels)
        self.self_attention = Attention(channels, heads)
        self.self_norm = nn.LayerNorm(channels)
        self.feedforward = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels)
        )
        self.feedforward_norm = nn.LayerNorm(channels)

    def forward(
        self, queries: Tensor, positions: Tensor, key: Tensor, value: Tensor, masks: AttentionMasks
    ) -> Tensor:
        """Return the queries after this layer.

        Args:
            queries: ``[B,Q,D]``.
            positions: ``[Q,D]``, what tells queries apart.
            key: ``[B,N,D]``, pixels with their positions.
            value: ``[B,N,D]``, pixels.
            masks: where each query may look.
        """
        attended = self.cross_attention(queries + positions, key, value, masks)
        queries = self.cross_norm(queries + attended)
        placed = queries + positions
        queries = self.self_norm(queries + self.self_attention(placed, placed, queries, None))
        output: Tensor = self.feedforward_norm(queries + self.feedforward(queries))
        return output


class QueryDecoder(nn.Module):
    """Decoder over levels of pixels, in turn (Mask2Former, section 3.2)."""

    def __init__(
        self,
        attention: type[ForegroundAttention | GlobalAttention],
        *,
        layers: int,
        queries: int,
        channels: int,
        mask_channels: int,
        heads: int,
        hidden: int,
        levels: int = 3,
    ) -> None:
        """Make a decoder.

        Args:
            attention: from queries to pixels.
            layers: how many; layer i looks at level i mod ``levels``.
            queries: how many masks there may be.
            channels: of queries and levels.
            mask_channels: of the pixel embedding.
            heads: of each attention.
            hidden: width of the feed-forward networks.
            levels: of pixels.
        """
        super().__init__()
        self.queries = nn.Embedding(queries, channels)
        self.query_positions = nn.Embedding(queries, channels)
        self.level_embedding = nn.Embedding(levels, channels)
        self.pixel_positions = Mask2FormerSinePositionEmbedding(channels // 2, normalize=True)
        self.layers = nn.ModuleList(
            DecoderLayer(attention(channels, heads, queries), channels, heads, hidden)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.mask_embedding = nn.Sequential(
            nn.Linear(channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, mask_channels),
        )

    def forward(self, levels: Sequence[Tensor], embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Find the masks.

        Args:
            levels: features ``[B,D,h,w]``, of three at a 32nd, 16th and 8th of the image's size.
            embedding: ``[B,M,H/4,W/4]``, of each pixel.

        Returns:
            Normalised queries ``[B,Q,D]`` and their mask logits ``[B,Q,H/4,W/4]``.
        """
        values = [
            level.flatten(2).transpose(1, 2) + self.level_embedding.weight[i]
            for i, level in enumerate(levels)
        ]
        keys = [v + self._positions(level) for v, level in zip(values, levels, strict=True)]
        # A mask is linear in the embedding, so that resizing the embedding once per level equals
        # resizing the masks of all queries, as published, in each layer.
        small = [_resize(embedding, level) for level in levels]
        queries = self.queries.weight.expand(embedding.shape[0], -1, -1)
        for i, layer in enumerate(self.layers):
            turn = i % len(levels)
            masks = attention_masks(self._masks(queries, small[turn]).flatten(2))
            queries = layer(queries, self.query_positions.weight, keys[turn], values[turn], masks)
        return self.norm(queries), self._masks(queries, embedding)

    def _positions(self, level: Tensor) -> Tensor:
        shape = torch.Size((1, *level.shape[1:]))
        positions: Tensor = self.pixel_positions(shape, level.device, level.dtype)
        return positions.flatten(2).transpose(1, 2)

    def _masks(self, queries: Tensor, embedding: Tensor) -> Tensor:
        return torch.einsum('bqc,bchw->bqhw', self.mask_embedding(self.norm(queries)), embedding)


def _resize(embedding: Tensor, level: Tensor) -> Tensor:
    return F.interpolate(embedding, level.shape[2:], mode='bilinear', align_corners=False)

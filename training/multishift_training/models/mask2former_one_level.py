# SPDX-License-Identifier: Apache-2.0
"""A pixel decoder that attends to the coarsest level alone, as RbA (Nayal et al., ICCV 2023)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
)

_GROUPS = 32  # of its norms


def keep_coarsest_level(decoder: Mask2FormerPixelDecoder) -> None:
    """Let a new pixel decoder attend to the coarsest level, and enlarge from there.

    `transformers` makes it for three levels, and one convolution pair for what is finer; its
    forward pass goes by the numbers of both.

    Args:
        decoder: with random weights.
    """
    module: Any = decoder
    width = decoder.level_embed.shape[1]
    module.num_feature_levels = 1
    decoder.level_embed = nn.Parameter(decoder.level_embed[:1].detach().clone())
    decoder.input_projections = decoder.input_projections[:1]
    for layer in decoder.encoder.layers:
        three: Any = layer.self_attn
        layer.self_attn = Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention(
            embed_dim=three.d_model, num_heads=three.n_heads, n_levels=1, n_points=three.n_points
        )
        _start(layer.self_attn)
    stride = max(decoder.transformer_feature_strides)
    module.transformer_feature_strides = [stride]
    module.num_fpn_levels = int(math.log2(stride // decoder.common_stride))
    lateral: list[nn.Module] = []
    output: list[nn.Module] = []
    for level, channels in enumerate(decoder.feature_channels[: module.num_fpn_levels], 1):
        convolutions = (
            (lateral, f'adapter_{level}', _convolution(channels, width, 1)),
            (output, f'layer_{level}', _convolution(width, width, 3).append(nn.ReLU())),
        )
        for kept, name, convolution in convolutions:
            setattr(decoder, name, convolution)
            kept.append(convolution)
    module.lateral_convolutions, module.output_convolutions = lateral[::-1], output[::-1]


def _convolution(inputs: int, outputs: int, size: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.GroupNorm(_GROUPS, outputs))


@torch.no_grad()
def _start(attention: Any) -> None:
    """Start a deformable attention as published: points go out in rings, all weigh the same."""
    nn.init.zeros_(attention.sampling_offsets.weight)
    angles = torch.arange(attention.n_heads) * (2 * math.pi / attention.n_heads)
    ways = torch.stack([angles.cos(), angles.sin()], -1)
    ways = (ways / ways.abs().amax(-1, keepdim=True))[:, None, None]
    steps = torch.arange(1.0, attention.n_points + 1)[:, None]
    offsets = (ways * steps).expand(-1, attention.n_levels, -1, -1)
    attention.sampling_offsets.bias.copy_(offsets.flatten())
    nn.init.zeros_(attention.attention_weights.weight)
    nn.init.zeros_(attention.attention_weights.bias)
    for linear in (attention.value_proj, attention.output_proj):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)

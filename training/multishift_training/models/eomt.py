# SPDX-License-Identifier: Apache-2.0
"""EoMT (Kerssies et al., CVPR 2025), an encoder-only mask transformer, with an uncertainty head.

A plain vision transformer whose last blocks also see the queries: no decoder follows, but two
convolutions that enlarge the patches' tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EomtConfig
from transformers.models.eomt.modeling_eomt import (
    EomtEmbeddings,
    EomtLayer,
    EomtMaskHead,
    EomtScaleBlock,
)

from multishift_training.models import eomt_layouts
from multishift_training.models.hugging_face import building, check_config, read_config
from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.layout import Layout
from multishift_training.models.mask2former_output import join_classes_first, join_masks
from multishift_training.models.mask_network import MaskNetwork
from multishift_training.models.prediction import MaskPrediction, Prediction


class Variant(NamedTuple):
    """What differs between the published sizes.

    Attributes:
        channels: of a token.
        layers: blocks in all.
        heads: of each attention.
        joint: last blocks, which see the queries.
    """

    channels: int
    layers: int
    heads: int
    joint: int


VARIANTS = {
    'eomt_small': Variant(384, 12, 6, joint=3),
    'eomt_base': Variant(768, 12, 12, joint=3),
    'eomt_large': Variant(1024, 24, 16, joint=4),
}

_PATCH = 16  # image pixels along a token's side
_STRIDE = 4  # and along a mask pixel's
# Of the options of `transformers`, those that this network does not know; no published network
# sets them otherwise.
_FIXED = {
    'hidden_dropout_prob': 0.0,
    'num_channels': 3,
    'num_upscale_blocks': 2,
    'patch_size': _PATCH,
}


def eomt(variant: Variant, num_classes: int = 19) -> Eomt:
    """Return the network of the published Cityscapes configuration, in one of the sizes."""
    config = EomtConfig(
        hidden_size=variant.channels,
        num_hidden_layers=variant.layers,
        num_attention_heads=variant.heads,
        num_blocks=variant.joint,
        image_size=1024,
        num_queries=100,
    )
    return Eomt(config, num_classes)


def eomt_from_folder(num_classes: int = 19, *, folder: str | Path) -> Eomt:
    """Return the network that a folder of `transformers` describes.

    Its weights are random; `checkpoints.load` reads the folder's.

    Args:
        num_classes: known classes; as many as the folder's.
        folder: holds ``config.json``.

    Raises:
        MultishiftError: there is no such file, it is broken, describes another network or other
            classes, or sets an option that no published network sets.
    """
    path = Path(folder) / 'config.json'
    fields = read_config(path, 'eomt', 'EoMT')
    with building(path):
        config = EomtConfig.from_dict(fields)
        model = Eomt(config, num_classes)
    check_config(path, config, num_classes, _FIXED)
    return model


class Encoder(nn.Module):
    """Patches of an image, and queries, to tokens."""

    def __init__(self, config: EomtConfig) -> None:
        """Make it of the parts of `transformers`."""
        super().__init__()
        self.embeddings = EomtEmbeddings(config)
        nn.init.normal_(self.embeddings.cls_token, std=config.initializer_range)
        self.layers = nn.ModuleList(EomtLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self._side = math.isqrt(self.embeddings.patch_embeddings.num_patches)
        self._alone = config.num_hidden_layers - config.num_blocks

    def forward(self, image: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Run all blocks.

        Args:
            image: ``[B,3,H,W]``, sides multiples of a patch's.
            queries: ``[Q,D]``.

        Returns:
            Queries ``[B,Q,D]``, and patches ``[B,D,h,w]``.
        """
        parts = self.embeddings
        patches = parts.patch_embeddings.projection(image)
        grid = patches.shape[2:]
        tokens = patches.flatten(2).mT + self._positions(grid)
        prefix = torch.cat([parts.cls_token, parts.register_tokens], 1)
        tokens = torch.cat([prefix.expand(len(image), -1, -1), tokens], 1)
        for index, layer in enumerate(self.layers):
            if index == self._alone:
                tokens = torch.cat([queries.expand(len(image), -1, -1), tokens], 1)
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        patches = tokens[:, len(queries) + prefix.shape[1] :]
        return tokens[:, : len(queries)], patches.mT.unflatten(2, grid)

    def _positions(self, grid: torch.Size) -> Tensor:
        """Return the patches' positions ``[h*w,D]``; resampled where the grid is another."""
        positions: Tensor = self.embeddings.position_embeddings.weight
        if tuple(grid) == (self._side, self._side):
            return positions
        square = positions.mT.reshape(1, -1, self._side, self._side)
        return F.interpolate(square, grid, mode='bicubic', align_corners=False)[0].flatten(1).mT


class Eomt(MaskNetwork):
    """Encoder, upsampling of its patches, masks of its queries, and two classifiers of them.

    The masked attention of the published training is not part of it: released networks were
    trained to do without, as those of this package that start from them are.

    In evaluation mode an image is cut along its longer side into squares, evenly spread, whose
    logits and scores are averaged where they overlap, as published; its ``masks`` are those of
    the squares, all of the batch's first squares first. In training mode it is one piece, as masks
    of squares fit no labels of the whole.
    """

    input_scale = IMAGENET

    def __init__(self, config: EomtConfig, num_classes: int) -> None:
        """Make the network; weights are random.

        Args:
            config: of `transformers`.
            num_classes: known classes.
        """
        super().__init__(config.hidden_size, num_classes, config.no_object_weight)
        config._attn_implementation = 'sdpa'
        self.backbone = Encoder(config)
        self.queries = nn.Embedding(config.num_queries, config.hidden_size)
        self.upscale = EomtScaleBlock(config)
        self.mask_embedding = EomtMaskHead(config)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        """Run the network; see `SegmentationModel`.

        The image is padded with zeros, right and below, to a multiple of a patch.
        """
        height, width = image.shape[2:]
        padded = F.pad(image, (0, -width % _PATCH, 0, -height % _PATCH))
        if self.training or padded.shape[2] == padded.shape[3]:
            return self._predict(padded, (height, width), size)
        return self._joined(padded, (height, width), size)

    def layouts(self) -> Sequence[Layout]:
        """Return the layouts of `transformers` and of the public code."""
        return eomt_layouts.layouts()

    def _predict(
        self, padded: Tensor, image: tuple[int, int], size: tuple[int, int] | None
    ) -> Prediction:
        queries, patches = self.backbone(padded, self.queries.weight)
        feature = self.upscale(patches)
        mask_logits = torch.einsum('bqc,bchw->bqhw', self.mask_embedding(queries), feature)
        masks = MaskPrediction(self.classifier(queries), self.uncertainty(queries), mask_logits)
        join = join_classes_first if self.training and self.classes_first else join_masks
        logits, score = join(masks, _STRIDE, image, size, self.score)
        rows, columns = (-(-side // _STRIDE) for side in image)
        return Prediction(logits, score, feature[:, :, :rows, :columns], masks)

    def _joined(
        self, padded: Tensor, image: tuple[int, int], size: tuple[int, int] | None
    ) -> Prediction:
        """Predict squares and join them."""
        along, side = (2, padded.shape[3]) if padded.shape[2] > padded.shape[3] else (3, 0)
        side = side or padded.shape[2]
        starts = _starts(padded.shape[along], side)
        squares = torch.cat([padded.narrow(along, start, side) for start in starts])
        parts = self._predict(squares, (side, side), None)
        logits = _stitched(parts.logits, starts, along)[:, :, : image[0], : image[1]]
        score = _stitched(parts.score[:, None], starts, along)[:, :, : image[0], : image[1]]
        if size is not None and size != image:
            logits, score = (
                F.interpolate(maps, size, mode='bilinear', align_corners=False)
                for maps in (logits, score)
            )
        feature = _stitched(parts.feature, [start // _STRIDE for start in starts], along)
        rows, columns = (-(-side // _STRIDE) for side in image)
        return Prediction(logits, score[:, 0], feature[:, :, :rows, :columns], parts.masks)


def _starts(length: int, side: int) -> list[int]:
    """Return where squares start that cover a length, evenly spread on mask pixels."""
    count = math.ceil(length / side)
    return [(length - side) * index // (count - 1) // _STRIDE * _STRIDE for index in range(count)]


def _stitched(squares: Tensor, starts: Sequence[int], along: int) -> Tensor:
    """Return maps of squares ``[n*B,C,s,s]`` side by side; their mean where they overlap."""
    pieces = squares.chunk(len(starts))
    side = squares.shape[along]
    length = starts[-1] + side
    if length == len(starts) * side:
        return torch.cat(pieces, along)
    total: Tensor | None = None
    shape = [1, 1, 1, 1]
    shape[along] = length
    counts = squares.new_zeros(shape)
    for piece, start in zip(pieces, starts, strict=True):
        counts.narrow(along, start, side).add_(1)
        around = (start, length - start - side)
        placed = F.pad(piece, (0, 0, *around) if along == 2 else around)
        total = placed if total is None else total + placed
    assert total is not None
    return total / counts

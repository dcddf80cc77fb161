# SPDX-License-Identifier: Apache-2.0
"""What DCR (Wan et al., IEEE TCSVT) adds to a frozen network, and what only its training needs.

The head's structure is that of the published figure; widths, depths and how similarities are mixed
were not published, and are choices.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_training.models.layers import conv_bn_relu
from multishift_training.models.precision import in_full
from multishift_training.models.prediction import Prediction, SegmentationModel
from multishift_training.models.segformer import SegFormer

Similarity = Literal['attention', 'feature', 'learned']
PostProcess = Literal['none', 'attention', 'blend']


class Calibration(NamedTuple):
    """How similarities of pixels are calibrated; see the method's configuration."""

    similarity: Similarity
    stage: int
    heads: int
    reduction: int
    alphas: tuple[float, float]
    weighted: Literal['learned', 'frozen']


class FrozenAttention:
    """What a stage of a SegFormer attends to, as it computed it last.

    Attributes:
        taken: the mean over blocks and heads, ``[B,h,w,keys' h,keys' w]``; None before it is run
            and after it was taken.
    """

    def __init__(self, model: SegFormer, stage: int) -> None:
        """Listen to a stage, the finest being 1."""
        self.taken: Tensor | None = None
        self._queries: list[Tensor] = []
        self._keys: list[Tensor] = []
        listened: Any = model.backbone.stages[stage - 1]
        attentions = [block.attention for block in listened.blocks]
        self._heads = attentions[0].num_attention_heads
        self._reduction = attentions[0].sequence_reduction_ratio
        listened.register_forward_pre_hook(partial(_begin, self))
        for attention in attentions:
            attention.q_proj.register_forward_hook(partial(_note, self._queries))
            attention.k_proj.register_forward_hook(partial(_note, self._keys))
        listened.register_forward_hook(partial(_finish, self))

    def begin(self) -> None:
        """Forget what a forward pass left that was broken off."""
        self._queries.clear()
        self._keys.clear()

    def finish(self, rows: int, columns: int) -> None:
        """Compute it, for a stage's output of so many rows and columns."""
        maps = [self._map(*pair) for pair in zip(self._queries, self._keys, strict=True)]
        self.begin()
        size = rows, columns, rows // self._reduction, columns // self._reduction
        self.taken = torch.stack(maps).mean(0).reshape(-1, *size)

    def _map(self, queries: Tensor, keys: Tensor) -> Tensor:
        return _attention(queries, keys, self._heads).mean(1)

    def take(self) -> Tensor:
        """Return it, once."""
        taken, self.taken = self.taken, None
        assert taken is not None
        return taken


def _attention(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Return the weights ``[B,heads,N,K]`` of ``queries [B,N,D]`` and ``keys [B,K,D]``."""
    queries, keys = _by_head(queries, heads), _by_head(keys, heads)
    weights: Tensor = (queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5).softmax(-1)
    return weights


def _by_head(tokens: Tensor, heads: int) -> Tensor:
    batch, count, _ = tokens.shape
    return tokens.reshape(batch, count, heads, -1).transpose(1, 2)


def _as_map(tokens: Tensor, like: Tensor) -> Tensor:
    """Return ``[B,D,h,w]`` of ``tokens [B,h*w,D]``, of the size of ``like``."""
    rows, columns = like.shape[2:]
    return tokens.transpose(1, 2).reshape(len(tokens), -1, rows, columns)


def _note(outputs: list[Tensor], module: Any, inputs: Any, output: Tensor) -> None:
    outputs.append(output)


def _begin(attention: FrozenAttention, module: Any, inputs: Any) -> None:
    attention.begin()


def _finish(attention: FrozenAttention, module: Any, inputs: Any, output: Tensor) -> None:
    attention.finish(output.shape[2], output.shape[3])


class SimilarityCalibration(nn.Module):
    """Attention of pixels to cells of an image, mixed of what is learned and what is frozen."""

    def __init__(self, width: int, config: Calibration) -> None:
        """Make it for features of ``width`` channels."""
        super().__init__()
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self._config = config

    def forward(self, feature: Tensor, frozen: Tensor | None) -> tuple[Tensor, Tensor]:
        """Calibrate.

        Args:
            feature: ``[B,width,h,w]``.
            frozen: attention of its pixels to its cells ``[B,h*w,K]``, or None where there is
                none.

        Returns:
            The calibrated feature, and the mixed attention ``[B,h*w,K]``.
        """
        placed = feature + self.position(feature)
        pixels = self.norm(placed.flatten(2).transpose(1, 2))
        cells = self.norm(self.pooled(placed).flatten(2).transpose(1, 2))
        heads = self._config.heads
        mixed = _attention(self.query(pixels), self.key(cells), heads)
        if frozen is not None:
            alpha = self._config.alphas[not self.training]
            share = alpha if self._config.weighted == 'learned' else 1 - alpha
            mixed = share * mixed + (1 - share) * frozen[:, None]
        values = mixed @ _by_head(self.value(cells), heads)
        attended = self.output(values.transpose(1, 2).flatten(2))
        return feature + _as_map(attended, feature), mixed.mean(1)

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the mean of each cell ``[B,K,h/r,w/r]`` of ``maps [B,K,h,w]``, rounded down."""
        return F.avg_pool2d(maps, [min(self._config.reduction, side) for side in maps.shape[2:]])


class Anomaly(NamedTuple):
    """What the head says, at the feature's stride.

    Attributes:
        calibrated: feature after calibration, ``[B,width,h,w]``.
        shared: what both disentanglers read, alike.
        related: the part that is related to what is seen, alike.
        logit: that a pixel is novel, ``[B,1,h,w]``.
        score: ``[B,1,h,w]``, 0..1.
    """

    calibrated: Tensor
    shared: Tensor
    related: Tensor
    logit: Tensor
    score: Tensor


class AnomalyHead(nn.Module):
    """Decoder, calibration, the disentangler of what is related, classifier, and the score."""

    def __init__(
        self,
        channels: int,
        width: int,
        calibration: Calibration | None,
        attention: FrozenAttention | None,
        post_process: PostProcess,
    ) -> None:
        """Make the head.

        Args:
            channels: of the frozen feature.
            width: of all features of the head.
            calibration: of similarities; if none, there is none.
            attention: the network's own, where the calibration takes that.
            post_process: how the score is made.
        """
        super().__init__()
        self.decoder = nn.Sequential(
            conv_bn_relu(channels, width), conv_bn_relu(width, width), conv_bn_relu(width, width)
        )
        self.calibration = calibration and SimilarityCalibration(width, calibration)
        self.refinement = nn.Sequential(conv_bn_relu(width, width), conv_bn_relu(width, width))
        # 1x1, so that what is said of a pixel stays that pixel's.
        self.related = nn.Sequential(
            conv_bn_relu(width, width, kernel=1), conv_bn_relu(width, width, kernel=1)
        )
        self.classifier = nn.Conv2d(width, 1, 1)
        self._similarity = calibration and calibration.similarity
        self._attention = attention
        self._post_process = post_process

    def forward(self, feature: Tensor) -> Anomaly:
        """Judge a frozen feature ``[B,channels,h,w]``."""
        decoded = self.decoder(feature)
        calibrated, mixed = decoded, None
        if self.calibration is not None:
            frozen = self._frozen(feature, self.calibration)
            calibrated, mixed = self.calibration(decoded, frozen)
        shared = self.refinement(calibrated)
        related = self.related(shared)
        logit = self.classifier(related)
        score = in_full(logit).sigmoid()
        if self.calibration is not None and mixed is not None and self._post_process != 'none':
            cells = self.calibration.pooled(score).flatten(1)[:, :, None]
            attended = _as_map(in_full(mixed) @ cells, score)
            score = attended if self._post_process == 'attention' else (score + attended) / 2
        return Anomaly(calibrated, shared, related, logit, score)

    def _frozen(self, feature: Tensor, calibration: SimilarityCalibration) -> Tensor | None:
        """Return the frozen attention of the feature's pixels to its cells, ``[B,h*w,K]``."""
        if self._similarity == 'learned':
            return None
        cells = calibration.pooled(feature)
        if self._attention is None:
            scaled = feature.flatten(2).transpose(1, 2) @ cells.flatten(2)
            similar: Tensor = (scaled / feature.shape[1] ** 0.5).softmax(-1)
            return similar
        # A coarser stage may have a cell more, of what is left at the border.
        taken = self._attention.take()[..., : cells.shape[2], : cells.shape[3]].flatten(3)
        by_key = taken.permute(0, 3, 1, 2)
        size = [feature.shape[2], feature.shape[3]]
        if by_key.shape[2:] != feature.shape[2:]:
            by_key = F.interpolate(by_key, size, mode='bilinear', align_corners=False)
        weights: Tensor = by_key.flatten(2).transpose(1, 2)
        return weights / weights.sum(-1, keepdim=True)


class TrainingParts(nn.Module):
    """What only training needs: the other disentangler, the painter, the second classifier.

    Without batch norms: overlaps may be of one cell, and are of another size in every sample.
    """

    def __init__(self, width: int, classes: int, classifier: nn.Conv2d | None) -> None:
        """Make the parts.

        Args:
            width: of the head's features.
            classes: known ones.
            classifier: the network's own; where its shape is that of ours, ours starts as its
                copy.
        """
        super().__init__()
        self.unrelated = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU()
        )
        half, quarter = max(width // 2, 4), max(width // 4, 4)
        self.reconstruction = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode='bilinear'),
            nn.Conv2d(width, half, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode='bilinear'),
            nn.Conv2d(half, quarter, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(quarter, 3, 3, padding=1),
            nn.Tanh(),
        )
        self.known = nn.Conv2d(width, classes, 1)
        if classifier is not None and classifier.weight.shape == self.known.weight.shape:
            with torch.no_grad():
                self.known.weight.copy_(classifier.weight)
                if classifier.bias is not None and self.known.bias is not None:
                    self.known.bias.copy_(classifier.bias)

    def painted(self, related: Tensor, unrelated: Tensor, size: tuple[int, int]) -> Tensor:
        """Return images ``[B,3,*size]``, -1..1, of both parts of features ``[B,width,h,w]``."""
        painted = self.reconstruction(torch.cat([related, unrelated], 1))
        if painted.shape[2:] == size:
            return painted  # type: ignore[no-any-return]
        return F.interpolate(painted, size, mode='bilinear', align_corners=False)


def has_attention(model: SegmentationModel) -> bool:
    """Return whether a network attends to cells of the image, as a SegFormer does."""
    return isinstance(model, SegFormer)


def add_anomaly_head(
    model: SegmentationModel,
    channels: int,
    width: int,
    calibration: Calibration | None,
    post_process: PostProcess,
) -> None:
    """Give a network the part ``anomaly`` and its score; the rest stays as it is.

    Its predictions then have, as auxiliary, ``calibrated``, ``shared`` and ``related`` of
    `Anomaly`, and ``logit``, that a pixel is novel, ``[B,1,H,W]``.
    """
    attention = None
    if calibration is not None and calibration.similarity == 'attention':
        assert isinstance(model, SegFormer)
        attention = FrozenAttention(model, calibration.stage)
    head = AnomalyHead(channels, width, calibration, attention, post_process)
    model.add_module('anomaly', head)
    model.register_forward_hook(_rescore)


def _rescore(model: Any, _: Any, prediction: Prediction) -> Prediction:
    size = (prediction.logits.shape[2], prediction.logits.shape[3])
    found: Anomaly = model.anomaly(prediction.feature)
    said = {name: getattr(found, name) for name in ('calibrated', 'shared', 'related')}
    said['logit'] = model.enlarge(found.logit, size)
    score = model.enlarge(found.score, size)[:, 0]
    return prediction._replace(score=score).with_auxiliary(said)

# SPDX-License-Identifier: Apache-2.0
"""From masks and classes of queries to maps at the image's size, without the masks at that size.

One mask per query and pixel is much the largest tensor of the network: 0.8 GB for 100 queries at
1024x2048, before the sigmoid. So the maps are made in bands of rows; where gradients are to pass
with mask losses beside them, classes are joined first, and there are no masks at that size.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_training.models.heads import MaskScore, mask_logits_to_semantic, mask_score
from multishift_training.models.prediction import MaskPrediction

_BAND_VALUES = 16_000_000  # 64 MB: larger is slower on a CPU, smaller makes exported graphs long


def join_masks(
    masks: MaskPrediction,
    stride: int,
    image: tuple[int, int],
    size: tuple[int, int] | None,
    score: MaskScore = mask_score,
) -> tuple[Tensor, Tensor]:
    """Return logits ``[B,C,*size]`` and score ``[B,*size]``.

    Mask logits are upsampled, then joined with the classes, in this order as published.

    Args:
        masks: of the padded image.
        stride: image pixels per mask pixel.
        image: rows and columns before padding.
        size: rows and columns wanted; the image's when left out.
        score: takes the uncertainty logits and the masks.
    """
    if size is None or size == image:
        bands = _upsampled(masks.mask_logits, stride, image)
    else:
        bands = iter([_resampled(masks.mask_logits, stride, image, size)])
    logits, scores = [], []
    for band in bands:
        probabilities = band.sigmoid()
        logits.append(mask_logits_to_semantic(masks.class_logits, probabilities))
        scores.append(score(masks.uncertainty_logits, probabilities))
    return torch.cat(logits, 2), torch.cat(scores, 1)


def join_classes_first(
    masks: MaskPrediction,
    stride: int,
    image: tuple[int, int],
    size: tuple[int, int] | None,
    score: MaskScore = mask_score,
) -> tuple[Tensor, Tensor]:
    """Return what `join_masks` does, but join at the masks' own size, then upsample.

    The published training with mask losses has this order. What is kept for the gradient is a
    fraction: masks at a quarter of the image's sides, and one index per pixel.
    """
    probabilities = masks.mask_logits.sigmoid()
    maps = _enlarged(score.maps(masks.uncertainty_logits, probabilities), stride, image, size)
    logits = mask_logits_to_semantic(masks.class_logits, probabilities)
    return _enlarged(logits, stride, image, size), score.read(maps)


def _enlarged(
    maps: Tensor, stride: int, image: tuple[int, int], size: tuple[int, int] | None
) -> Tensor:
    """Return maps ``[B,C,h,w]`` of the padded image at ``size``, bilinear, without the padding."""
    if size is not None and size != image:
        return _resampled(maps, stride, image, size)
    whole = [stride * side for side in maps.shape[2:]]
    large = F.interpolate(maps, whole, mode='bilinear', align_corners=False)
    return large[:, :, : image[0], : image[1]]


def _upsampled(logits: Tensor, stride: int, image: tuple[int, int]) -> Iterator[Tensor]:
    """Yield bands of rows of the bilinear upsampling by ``stride``, cropped to ``image``.

    Equal to upsampling the whole and cropping, for each band brings a row of its neighbours.
    """
    batch, queries = logits.shape[:2]
    height, width = (-(-side // stride) for side in image)
    rows = max(1, _BAND_VALUES // (batch * queries * width * stride**2))
    for first in range(0, height, rows):
        top = max(first - 1, 0)
        source = logits[:, :, top : first + rows + 1, : width + 1]
        enlarged = [stride * side for side in source.shape[2:]]
        band = F.interpolate(source, enlarged, mode='bilinear', align_corners=False)
        start, end = stride * first, min(stride * (first + rows), image[0])
        yield band[:, :, start - stride * top : end - stride * top, : image[1]]


def _resampled(
    logits: Tensor, stride: int, image: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Return the bilinear sample of ``logits`` that spreads ``size`` evenly over the image.

    `F.interpolate` can not: the image ends between two mask pixels where it was padded.
    """
    axes = [
        (torch.arange(count, device=logits.device) + 0.5) * (2 * side / (count * stride * cells))
        - 1
        for count, side, cells in zip(size, image, logits.shape[2:], strict=True)
    ]
    y, x = torch.meshgrid(*axes, indexing='ij')
    grid = torch.stack([x, y], -1).to(logits.dtype).expand(len(logits), -1, -1, -1)
    return F.grid_sample(logits, grid, padding_mode='border', align_corners=False)

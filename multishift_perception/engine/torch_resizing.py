# SPDX-License-Identifier: Apache-2.0
"""What ``images.resizing`` does, in PyTorch's operations: on x86-64 the same bytes, on any device.

OpenCV interpolates bytes in fixed point, and averages areas in float32 in an order that is kept
here. No operation waits for the device or copies to it: a CUDA graph can hold them all.
"""

from __future__ import annotations

import math
import sys

import cv2
import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor, nn

from multishift_perception.images.resizing import fit_steps, nearest_rows

# OpenCV's weights of an interpolation are integers of so many bits.
_WEIGHT_BITS = 11
# What OpenCV takes for nothing of a pixel.
_SLIVER = 1e-3


class Fit(nn.Sequential):
    """Stretches images ``uint8 [h,w,c]`` of one size to ``uint8 [height,width,c]`` as `fit` does.

    Its tables move with it from device to device.
    """

    def __init__(self, shape: tuple[int, int], size: tuple[int, int]) -> None:
        """Plan the steps.

        Args:
            shape: height and width of the images.
            size: height and width that they get.
        """
        steps: list[nn.Module] = []
        for wanted, method in fit_steps(shape, size):
            if method == cv2.INTER_LINEAR:
                steps.append(_Interpolate(shape, wanted))
            elif shape == (2 * wanted[0], 2 * wanted[1]):
                steps.append(_Halve())
            elif all(_is_whole(_scale(*sides)) for sides in zip(shape, wanted, strict=True)):
                steps.append(_AverageBlocks(shape, wanted))
            else:
                steps.append(_AverageAreas(shape, wanted))
            shape = wanted
        super().__init__(*steps)


class ResizeLabels(nn.Module):
    """Brings labels ``uint8 [h,w]`` to ``uint8 [height,width]`` as `resize_labels` does."""

    rows: Tensor
    columns: Tensor

    def __init__(self, shape: tuple[int, int], size: tuple[int, int]) -> None:
        """Plan it; both are height and width."""
        super().__init__()
        self._is_same = shape == size
        for name, old, new in zip(('rows', 'columns'), shape, size, strict=True):
            self.register_buffer(name, torch.tensor(nearest_rows(old, new)))

    def forward(self, labels: Tensor) -> Tensor:
        """Return the labels; where they have that size, themselves."""
        if self._is_same:
            return labels
        return labels.index_select(1, self.columns).index_select(0, self.rows)


class ResizeScores(nn.Module):
    """Brings scores ``uint8 [h,w]`` to ``uint8 [height,width]`` as `resize_scores` does."""

    def __init__(self, shape: tuple[int, int], size: tuple[int, int]) -> None:
        """Plan it; both are height and width."""
        super().__init__()
        self._resize: nn.Module = nn.Identity()
        if shape == (2 * size[0], 2 * size[1]):
            self._resize = _Halve()  # what OpenCV takes for an interpolation there
        elif shape != size:
            self._resize = _Interpolate(shape, size)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the scores; where they have that size, themselves."""
        resized: Tensor = self._resize(scores[..., None])[..., 0]
        return resized


class _Halve(nn.Module):
    """Takes the mean of each four pixels, a half rounded up."""

    def forward(self, image: Tensor) -> Tensor:
        total = image[0::2, 0::2].to(torch.int16)
        for row, column in ((0, 1), (1, 0), (1, 1)):
            total += image[row::2, column::2]
        return total.add_(2).bitwise_right_shift_(2).to(torch.uint8)


class _AverageBlocks(nn.Module):
    """Takes the mean of blocks of whole pixels."""

    def __init__(self, shape: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self._down, self._across = (old // new for old, new in zip(shape, size, strict=True))
        self._share = float(np.float32(1) / np.float32(self._down * self._across))

    def forward(self, image: Tensor) -> Tensor:
        height, width, channels = image.shape
        blocks = image.view(
            height // self._down, self._down, width // self._across, self._across, channels
        )
        total = blocks.sum((1, 3), dtype=torch.int32)
        return total.to(torch.float32).mul_(self._share).round_().to(torch.uint8)


class _Interpolate(nn.Module):
    """Takes the weighted mean of the nearest two rows and columns."""

    columns: Tensor
    column_weights: Tensor
    rows: Tensor
    row_weights: Tensor

    def __init__(self, shape: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        first, share = _centres(shape[1], size[1])
        # Beyond an edge, columns take that edge whole; rows take it twice, and round each.
        share[(first < 0) | (first >= shape[1] - 1)] = 0
        self._register('column', first, share, shape[1], (1, -1, 1))
        self._register('row', *_centres(shape[0], size[0]), shape[0], (-1, 1, 1))

    def _register(
        self,
        name: str,
        first: NDArray[np.int64],
        share: NDArray[np.float32],
        count: int,
        shape: tuple[int, ...],
    ) -> None:
        places = np.stack([first, first + 1]).clip(0, count - 1)
        weights = np.rint(np.stack([1 - share, share]) * np.float32(1 << _WEIGHT_BITS))
        self.register_buffer(f'{name}s', torch.from_numpy(places))
        whole = torch.from_numpy(weights.astype(np.int32))
        self.register_buffer(f'{name}_weights', whole.view(2, *shape))

    def forward(self, image: Tensor) -> Tensor:
        left, right = (
            image.index_select(1, places).to(torch.int32).mul_(weights)
            for places, weights in zip(self.columns, self.column_weights, strict=True)
        )
        wide = left.add_(right).bitwise_right_shift_(4)
        above, below = (
            wide.index_select(0, places).mul_(weights).bitwise_right_shift_(16)
            for places, weights in zip(self.rows, self.row_weights, strict=True)
        )
        return above.add_(below).add_(2).bitwise_right_shift_(2).to(torch.uint8)


class _AverageAreas(nn.Module):
    """Takes the mean over areas, whose edges count in part."""

    columns: Tensor
    column_weights: Tensor
    rows: Tensor
    row_weights: Tensor

    def __init__(self, shape: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        for name, axis, form in (('row', 0, (-1, 1, 1)), ('column', 1, (1, -1, 1))):
            places, weights = _areas(shape[axis], size[axis])
            self.register_buffer(f'{name}s', torch.from_numpy(places))
            shares = torch.from_numpy(weights).view(len(weights), *form)
            self.register_buffer(f'{name}_weights', shares)

    def forward(self, image: Tensor) -> Tensor:
        wide = _weighted(image, 1, self.columns, self.column_weights)
        return _weighted(wide, 0, self.rows, self.row_weights).round_().to(torch.uint8)


def _weighted(image: Tensor, dim: int, places: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of slices, one after the other: float sums depend on the order."""
    total = torch.zeros((), dtype=torch.float32, device=image.device)
    for place, weight in zip(places, weights, strict=True):
        # Apart from the sum, so that no device fuses both and rounds once.
        total = image.index_select(dim, place).to(torch.float32).mul_(weight).add_(total)
    return total


def _scale(old: int, new: int) -> float:
    """Return how many old pixels a new one covers, computed as OpenCV does."""
    return 1 / (new / old)


def _is_whole(scale: float) -> bool:
    return abs(scale - round(scale)) < sys.float_info.epsilon


def _centres(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return for each new pixel the old one before its centre, and the share of the next one."""
    at = ((np.arange(new) + 0.5) * _scale(old, new) - 0.5).astype(np.float32)
    first = np.floor(at)
    return first.astype(np.int64), at - first


def _areas(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return which old pixels each new one covers, and their shares of it.

    Returns:
        Both ``[K,new]``, K the most that one covers; where it is fewer, the others have no share.
    """
    scale = _scale(old, new)
    covered: list[list[tuple[int, float]]] = []
    for i in range(new):
        begin = i * scale
        end = begin + scale
        cell = min(scale, old - begin)
        last = min(math.floor(end), old - 1)
        first = min(math.ceil(begin), last)
        shares = [(k, 1 / cell) for k in range(first, last)]
        if first - begin > _SLIVER:
            shares.insert(0, (first - 1, (first - begin) / cell))
        if end - last > _SLIVER:
            shares.append((last, min(end - last, 1.0, cell) / cell))
        covered.append(shares)
    most = max(map(len, covered))
    padded = np.array([shares + [(0, 0.0)] * (most - len(shares)) for shares in covered])
    places, weights = padded.transpose(2, 1, 0)
    return places.astype(np.int64), weights.astype(np.float32)

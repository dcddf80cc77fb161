# SPDX-License-Identifier: Apache-2.0
"""What shrinks images on a GPU gives the bytes that OpenCV gives on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from multishift_perception.engine.torch_resizing import Fit, ResizeLabels, ResizeScores
from multishift_perception.images.resizing import fit, resize_labels, resize_scores

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]


def assert_fits_alike(shape: tuple[int, int, int], size: tuple[int, int], device: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    planned = Fit(shape[:2], size).to(device)
    with torch.inference_mode():
        found = planned(torch.from_numpy(image).to(device)).cpu().numpy()
    wanted = fit(image, size).reshape(*size, shape[2])
    wrong = int(np.count_nonzero(found != wanted))
    assert not wrong, f'{wrong} bytes differ from {shape} to {size}'


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(
    ('shape', 'size'),
    [
        ((64, 96, 3), (64, 96)),  # as it is
        ((256, 384, 3), (64, 96)),  # halved
        ((1080, 1920, 3), (288, 512)),  # halved, interpolated at twice the size, halved
        ((1200, 1920, 3), (288, 512)),  # halved, areas
        ((720, 1280, 3), (256, 512)),  # more than twice in one direction alone
        ((600, 960, 3), (200, 320)),  # blocks of whole pixels
        ((480, 640, 3), (512, 1024)),  # grows
        ((480, 1280, 3), (512, 512)),  # grows in one direction, shrinks in the other
        ((541, 961, 1), (64, 96)),  # odd sides, one channel
        ((541, 961, 4), (64, 96)),
        ((1, 1, 3), (8, 8)),
    ],
)
def test_equals_opencv(shape: tuple[int, int, int], size: tuple[int, int], device: str) -> None:
    assert_fits_alike(shape, size, device)


def some_sizes() -> Iterator[tuple[tuple[int, int, int], tuple[int, int]]]:
    rng = np.random.default_rng(1)
    for _ in range(60):
        height, width = (int(side) for side in rng.integers(8, 40, 2))
        down, across = rng.uniform(0.2, 6, 2)
        yield (
            (int(height * down) + 1, int(width * across) + 1, int(rng.choice([1, 3, 4]))),
            (height, width),
        )


@pytest.mark.parametrize('device', DEVICES)
def test_equals_opencv_at_any_size(device: str) -> None:
    for shape, size in some_sizes():
        assert_fits_alike(shape, size, device)


@pytest.mark.parametrize('device', DEVICES)
def test_outputs_equal_those_of_opencv_at_any_size(device: str) -> None:
    sizes = [((shape[0], shape[1]), size) for shape, size in some_sizes()]
    for small, large in [((288, 512), (1080, 1920)), ((64, 96), (32, 48)), *sizes]:
        output = np.random.default_rng(0).integers(0, 256, small, np.uint8)
        there = torch.from_numpy(output).to(device)
        for kind, by_opencv in ((ResizeLabels, resize_labels), (ResizeScores, resize_scores)):
            resize = kind(small, large).to(device)
            found = resize(there).cpu().numpy()
            assert np.array_equal(found, by_opencv(output, large)), (kind, small, large)

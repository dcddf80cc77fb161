# SPDX-License-Identifier: Apache-2.0
"""What is counted of a network."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from multishift_training.models.size import _ShapedSamples


def test_samples_have_the_shape_of_samples() -> None:
    image, grid = torch.zeros(2, 3, 8, 9), torch.zeros(2, 4, 5, 2)
    expected = F.grid_sample(image, grid, align_corners=False)
    with _ShapedSamples():
        found = F.grid_sample(image.to('meta'), grid.to('meta'), align_corners=False)
    assert (found.shape, found.dtype, found.device.type) == (
        expected.shape,
        expected.dtype,
        'meta',
    )

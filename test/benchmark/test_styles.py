# SPDX-License-Identifier: Apache-2.0
"""The styles that the picture of style projection is drawn of."""

from __future__ import annotations

from pathlib import Path
import runpy

import numpy as np
import torch
from torch import nn

from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.style_projection import StyleProjection

script = runpy.run_path(str(Path(__file__).with_name('styles.py')))


class Projecting(nn.Module):
    """A projection alone."""

    input_scale = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        self.tap = StyleProjection(3, 2, 'none')

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.tap(image)
        return result


def test_styles_differ_before_and_not_after_a_projection_to_none() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(low, low + 50, (8, 8, 3), np.uint8) for low in (0, 0, 200, 200)]
    model = Projecting()
    ((before, after),) = script['styles_of'](model, map(torch.from_numpy, images)).values()
    assert before.shape == after.shape == (4, 6)
    assert np.abs(after - [0, 0, 0, 1, 1, 1]).max() < 1e-3
    domains = np.array([0, 0, 1, 1])
    assert script['purity'](before, domains) == 1
    assert script['purity'](before, np.array([0, 1, 0, 1])) == 0

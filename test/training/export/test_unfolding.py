# SPDX-License-Identifier: Apache-2.0
"""The weights of a program, put into a network again that says the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from multishift_perception.engine import Calibration
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.program import export_program
from multishift_training.export.unfolding import unfold
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import IMAGENET

CALLS = np.random.default_rng(0).integers(0, 256, (2, 1, 16, 16, 3), np.uint8)


class Toy(SegmentationModel):
    """Calls a convolution and its norm twice, and has all else that a state may hold."""

    input_scale = IMAGENET

    def __init__(self, seed: int, *, reverse: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.enter = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.tap = nn.Conv2d(3, 3, 1)
        self.aside = nn.Conv2d(3, 3, 1)
        self.register_buffer('steps', torch.tensor(seed))
        self.register_buffer('index', torch.tensor([2, 0, 1]), persistent=False)
        self.reverse = reverse
        for tensor in self.norm.parameters():
            nn.init.uniform_(tensor, 0.5, 2)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    @property
    def early(self) -> nn.Module:
        return self.tap

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        twice = self.norm(self.enter(self.norm(self.enter(image)).relu()))
        logits = self.tap(twice)[:, self.get_buffer('index')] * torch.tensor(2.0)
        score = logits.amax(1)
        return Prediction(logits.flip(1) if self.reverse else logits, score, logits)


@pytest.fixture(scope='module')
def trained(calibration: Calibration) -> DeployGraph:
    return DeployGraph(Toy(1), calibration)


@pytest.fixture(scope='module')
@torch.no_grad()
def program(trained: DeployGraph) -> ExportedProgram:
    return export_program(trained, torch.from_numpy(CALLS[0]))


@torch.no_grad()
def test_all_that_outputs_depend_on(
    trained: DeployGraph, program: ExportedProgram, calibration: Calibration
) -> None:
    new = DeployGraph(Toy(2), calibration)
    left = unfold(program, new, CALLS)
    assert set(left) == {'model.aside.weight', 'model.aside.bias', 'model.steps'}
    frames = torch.from_numpy(CALLS[1]).flip(1)
    for found, expected in zip(new(frames)[:2], trained(frames)[:2], strict=True):
        assert torch.allclose(found, expected, atol=1e-4)


def test_other_labels_by_the_same_weights(
    program: ExportedProgram, calibration: Calibration
) -> None:
    with pytest.raises(ValueError, match='% of its labels agree'):
        unfold(program, DeployGraph(Toy(2, reverse=True), calibration), CALLS)

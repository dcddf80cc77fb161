# SPDX-License-Identifier: Apache-2.0
"""What rounding makes of convolutions, and what is kept from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from torch import Tensor, nn

from multishift_perception.engine.manifest import Calibration, ClassEntry
from multishift_perception.engine.probe import BOUNDS
from multishift_training import models
from multishift_training.export import Plan, Precision, export_bundle
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.quantize import quantized, too_coarse
from multishift_training.export.rounding import coarse, rounding_noise, store_exactly

CLASSES = 5


class Cancelling(nn.Module):
    """A depthwise convolution between two others, whose large products add up to little."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            self.first.weight *= 4
            self.depthwise.weight *= 120
            self.depthwise.weight -= self.depthwise.weight.mean((2, 3), keepdim=True)

    def forward(self, frames: Tensor) -> Tensor:
        image = self.first(frames.permute(0, 3, 1, 2) / 255) + 4
        x = self.depthwise(image.relu()).clamp(0, 6)
        return self.last(x)


def frame(seed: int = 0) -> np.ndarray:
    """Blocks, ``uint8 [1,16,24,3]``."""
    blocks = np.random.default_rng(seed).integers(0, 256, (1, 4, 6, 3), np.uint8)
    return blocks.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture
def model() -> ov.Model:
    torch.manual_seed(0)
    network, x = Cancelling().eval(), torch.from_numpy(frame())
    converted = ov.convert_model(torch.export.export(network, (x,)))
    converted.reshape(list(x.shape))
    return converted


def test_what_cancels_is_coarse_and_nothing_else(model: ov.Model) -> None:
    for bits in (16, 8):
        noise = rounding_noise(model, [frame(), frame(1)], bits)
        assert len(noise) == 3
        (name,) = coarse(model, [frame(), frame(1)], bits)
        assert 'GroupConvolution' in name
        assert noise[name] == max(noise.values())


def test_measuring_leaves_the_model_alone(model: ov.Model) -> None:
    before = [node.get_type_name() for node in model.get_ordered_ops()]
    rounding_noise(model, [frame()], 8)
    assert [node.get_type_name() for node in model.get_ordered_ops()] == before
    assert len(model.outputs) == 1


def run(model: ov.Model) -> np.ndarray:
    options = {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 1}
    return ov.Core().compile_model(model, 'CPU', options)([frame()])[0]


def stored(model: ov.Model, file: Path) -> np.ndarray:
    ov.save_model(model, file, compress_to_fp16=True)
    return run(ov.Core().read_model(file))


def test_stored_exactly(model: ov.Model, tmp_path: Path) -> None:
    expected = run(model)
    rounded = np.abs(stored(model, tmp_path / 'half.xml') - expected).max()
    store_exactly(model, list(rounding_noise(model, [frame()], 16)))
    exact = np.abs(stored(model, tmp_path / 'exact.xml') - expected).max()
    assert exact < 1e-5 * np.abs(expected).max()
    assert rounded > 20 * exact


@pytest.mark.slow
def test_coarse_is_not_quantised(model: ov.Model) -> None:
    (name,) = too_coarse(model, [frame()])
    kinds = []
    for exact in ([], [name]):
        made = {n.get_friendly_name(): n for n in quantized(model, [frame()], exact).get_ops()}
        kinds.append(made[name].input_value(1).get_node().get_type_name())
    assert kinds[0] != 'Constant' and kinds[1] == 'Constant'


@pytest.mark.slow
@pytest.mark.parametrize('precision', ['fp32', 'int8'])
def test_parity_of_lite0_with_a_coarse_first_block(
    precision: Precision, tmp_path: Path, calibration: Calibration
) -> None:
    """As ImageNet's weights have it: a batch norm that divides by little."""
    torch.manual_seed(0)
    model = models.create('deeplabv3plus_efficientnet_lite0', CLASSES)
    depthwise = model.backbone.blocks[0].depthwise
    with torch.no_grad():
        depthwise[0].weight -= depthwise[0].weight.mean((2, 3), keepdim=True)
        depthwise[1].running_var.fill_(1e-5)
        depthwise[1].bias.fill_(3)
        model.backbone.stem[1].bias.fill_(3)
        model.backbone.stem[1].weight.fill_(0.02)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 1, 4, 6, 3), np.uint8).repeat(16, 2).repeat(16, 3)
    manifest = export_bundle(
        tmp_path / 'bundle',
        DeployGraph(model, calibration),
        calibration=calibration,
        probes=frames[:2],
        targets=Plan(['openvino'], precision),
        samples=list(frames),
        model='deeplabv3plus_efficientnet_lite0',
        method='none',
        classes=[ClassEntry(name=str(i), color=(i, 0, 0)) for i in range(CLASSES)],
        provenance={},
    )
    parity = manifest.artifacts[0].parity
    assert parity is not None
    assert parity.label_agreement >= BOUNDS[precision].label_agreement
    written = ov.Core().read_model(tmp_path / 'bundle' / 'openvino.xml')
    first = next(n for n in written.get_ordered_ops() if n.get_type_name() == 'GroupConvolution')
    assert first.input_value(1).get_node().get_type_name() == 'Add'  # of halves

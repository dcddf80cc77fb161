# SPDX-License-Identifier: Apache-2.0
"""Explicit quantisation for TensorRT: which products, how exactly, and what builds it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
import pytest
from scipy.stats import spearmanr
import torch
from torch import Tensor, nn

from multishift_perception.engine.manifest import Calibration
from multishift_perception.engine.types import EngineOutput
from multishift_training.export import Plan, Precision
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.eight_bits import measured_ranges
from multishift_training.export.network import Network
from multishift_training.export.program import export_program
from multishift_training.export.targets import tensorrt_rtx as target
from multishift_training.export.to_onnx import to_onnx
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.heads import EnergyHead
from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.layers import upsample

pytestmark = pytest.mark.slow

CLASSES = 5


class Tiny(SegmentationModel):
    """Products of every kind, between a first one and two last ones."""

    input_scale = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.linear = nn.Linear(16, 24)
        self.wide = nn.Conv2d(24, 32, 3, 1, padding='same')
        self.classifier = nn.Conv2d(32, CLASSES, 1)
        self.uncertainty = EnergyHead(32, CLASSES)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        feature = self.depthwise(self.first(image).relu()).relu()
        feature = self.linear(feature.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).relu()
        feature = self.wide(feature).relu()
        size = size or (image.shape[2], image.shape[3])
        score = upsample(self.uncertainty(feature)[:, None], size)[:, 0]
        return Prediction(upsample(self.classifier(feature), size), score, feature)


class Case(NamedTuple):
    network: Network
    graph: DeployGraph
    frames: np.ndarray


@pytest.fixture(scope='module')
def case(calibration: Calibration) -> Case:
    torch.manual_seed(0)
    coarse = np.random.default_rng(0).integers(0, 256, (4, 1, 6, 8, 3), np.uint8)
    frames, *samples = coarse.repeat(4, axis=2).repeat(4, axis=3)
    graph = DeployGraph(Tiny(), calibration)
    shown = torch.from_numpy(frames)
    return Case(Network(export_program(graph, shown), shown, samples), graph, frames)


@pytest.fixture(scope='module')
def models(case: Case) -> Mapping[str, onnx.ModelProto]:
    """ONNX of each precision."""
    return {p: onnx.load_from_string(to_onnx(case.network.typed(p))) for p in ('int8', 'fp8')}


def outputs(program: torch.export.ExportedProgram | nn.Module, frames: np.ndarray) -> EngineOutput:
    graph = program if isinstance(program, nn.Module) else program.module(check_guards=False)
    with torch.inference_mode():
        return EngineOutput(*(t.numpy() for t in graph(torch.from_numpy(frames))))


@pytest.mark.parametrize('precision', ['int8', 'fp8'])
def test_products_between_the_ends_are_given_8_bits(
    models: Mapping[str, onnx.ModelProto], precision: str
) -> None:
    graph = models[precision].graph
    makers = {name: node for node in graph.node for name in node.output}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    products = [n for n in graph.node if n.op_type in ('Conv', 'MatMul', 'Gemm')]
    assert len(products) == 6
    quantised = []
    for product in products:
        value, weight = (_before_views(makers, name) for name in product.input[:2])
        pair = [
            node is not None and node.op_type == 'DequantizeLinear' for node in (value, weight)
        ]
        assert pair[0] == pair[1]
        quantised.append(pair[0])
        if pair[0]:
            assert makers[value.input[0]].op_type == 'QuantizeLinear'
            expected = {'int8': onnx.TensorProto.INT8, 'fp8': onnx.TensorProto.FLOAT8E4M3FN}
            assert types[weight.input[0]] == expected[precision]
            assert types[weight.input[1]] == onnx.TensorProto.FLOAT16
    # The first, the depthwise one, and classifier and head are what they are in float16.
    assert quantised == [False, False, True, True, False, False]
    onnx.checker.check_model(models[precision])


def _before_views(makers: Mapping[str, onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    node = makers.get(name)
    while node is not None and node.op_type in ('Transpose', 'Reshape', 'Identity'):
        node = makers.get(node.input[0])
    return node


@pytest.mark.parametrize(
    ('precision', 'labels', 'rank'), [('int8', 0.97, 0.999), ('fp8', 0.9, 0.99)]
)
def test_labels_and_the_order_of_scores_stay(
    case: Case, precision: Precision, labels: float, rank: float
) -> None:
    exact = outputs(case.graph, case.frames)
    found = outputs(case.network.typed(precision), case.frames)
    assert (found.label == exact.label).mean() >= labels
    assert spearmanr(found.score.ravel(), exact.score.ravel()).statistic >= rank
    assert np.abs(found.score - exact.score).max() > 1e-4 * exact.score.std()


@pytest.mark.parametrize('precision', ['int8', 'fp8'])
def test_the_nodes_mean_what_the_program_computes(
    case: Case, models: Mapping[str, onnx.ModelProto], precision: Precision
) -> None:
    """By the reference of ONNX."""
    run = ReferenceEvaluator(models[precision])
    found = EngineOutput(*run.run(None, {'frames': case.frames}))
    expected = outputs(case.network.typed(precision), case.frames)
    assert (found.label == expected.label).mean() > 0.99
    assert np.abs(found.score - expected.score).max() < 0.05 * expected.score.std()


class Layers(nn.Module):
    """Linear layers, the second with large weights of both signs for equal values.

    Their products cancel, their rounding does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 8), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), nn.Linear(8, 2)
        )
        first, second, *_ = self.layers
        with torch.no_grad():
            for tensor in first.parameters():
                tensor[1] = tensor[0]
            second.weight[:, 0] += 90 + torch.randn(16)
            second.weight[:, 1] -= 90

    def forward(self, frames: Tensor) -> Tensor:
        return self.layers(frames / 255)


@pytest.fixture(scope='module')
def layers() -> Network:
    torch.manual_seed(0)
    export = partial(torch.export.export, Layers())
    frames, *samples = torch.randint(256, (3, 1, 8, 8, 3), dtype=torch.uint8)
    network = Network(export((frames,)), frames, [s.numpy() for s in samples])
    network._export = lambda frames: export((frames,))
    return network


@pytest.mark.parametrize('precision', ['int8', 'fp8'])
def test_what_8_bits_hold_too_coarsely_stays(layers: Network, precision: Precision) -> None:
    ranges = measured_ranges(layers.program, layers.samples, precision)
    assert ranges.keys() == {'linear_2'}


def test_calls_of_other_sizes_take_the_same_ranges(layers: Network) -> None:
    """They have no samples of their own."""
    scales = [
        [v for k, v in network.typed('fp8').state_dict.items() if k.endswith('_scale')]
        for network in (layers.of(2), layers)
    ]
    assert len(scales[0]) == 1
    assert scales[0] == scales[1]


def test_measuring_without_samples_is_a_mistake(layers: Network) -> None:
    with pytest.raises(ValueError, match='samples'):
        measured_ranges(layers.program, [], 'int8')


def test_tensorrt_for_rtx_builds_it(
    case: Case, models: Mapping[str, onnx.ModelProto], tmp_path: Path
) -> None:
    plan = Plan(['tensorrt-rtx'], 'fp8', ['8.9', '12.0'])
    written = list(target.build_engines(models['fp8'].SerializeToString(), 1, plan, tmp_path))
    assert [(w.file.name, w.precision) for w in written] == [
        ('tensorrt-rtx-sm89.engine', 'fp8'),
        ('tensorrt-rtx-sm120.engine', 'fp8'),
    ]
    assert all(w.file.read_bytes()[:4] == b'vtrt' for w in written)

# SPDX-License-Identifier: Apache-2.0
"""Real engines of the real library, for one small network of each family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import tensorrt_rtx as trt
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from transformers import Mask2FormerConfig, SwinConfig

from multishift_perception.engine.manifest import (
    Artifact,
    Calibration,
    ClassEntry,
    read_manifest,
)
from multishift_perception.engine.probe import BOUNDS, ProbeSet
from multishift_perception.engine.types import EngineOutput
from multishift_perception.errors import MultishiftError
from multishift_perception.files import sha256
from multishift_training import models
from multishift_training.export import Plan, Precision, bundle, export_bundle
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.precision import DTYPES, typed
from multishift_training.export.program import export_program
from multishift_training.export.targets import tensorrt_rtx
from multishift_training.export.tensorrt_builder import EngineBuilder
from multishift_training.export.to_onnx import to_onnx
from multishift_training.models.segformer import SegFormer, Variant

pytestmark = pytest.mark.slow

CLASSES = 5


def compact(folder: Path) -> models.SegmentationModel:
    return models.create('deeplabv3plus_compact', CLASSES)


def segformer(folder: Path) -> models.SegmentationModel:
    return SegFormer(Variant((1, 1, 1, 1), (8, 16, 24, 32), 16), CLASSES)


def mask2former(folder: Path) -> models.SegmentationModel:
    config = Mask2FormerConfig(  # type: ignore[call-arg]
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=4,
        num_queries=7,
        num_labels=CLASSES,
    )
    config.backbone_config = SwinConfig(  # type: ignore[call-arg]
        embed_dim=16,
        depths=[1, 1, 2, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )
    (folder / 'config.json').write_text(json.dumps(config.to_dict()))
    return models.create('mask2former', CLASSES, folder=str(folder))


@torch.no_grad()
def scrambled(model: nn.Module) -> None:
    """Give tensors values that differ enough for labels to differ."""
    for name, tensor in model.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.add_(0.1 * torch.randn_like(tensor))


class Case(NamedTuple):
    calibration: Calibration
    frames: np.ndarray
    graph: DeployGraph
    programs: Mapping[Precision, ExportedProgram]
    onnx: Callable[[], bytes]  # of the program in fp16


@pytest.fixture(scope='module', params=[compact, segformer, mask2former])
def case(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    calibration: Calibration,
) -> Case:
    """One network of a family, and its program in every precision."""
    make: Callable[[Path], models.SegmentationModel] = request.param
    torch.manual_seed(0)
    model = make(tmp_path_factory.mktemp('folder'))
    scrambled(model)
    coarse = np.random.default_rng(0).integers(0, 256, (1, 8, 12, 3), np.uint8)
    frames = coarse.repeat(8, axis=1).repeat(8, axis=2)
    graph = DeployGraph(model, calibration)
    program = export_program(graph, torch.from_numpy(frames))
    programs = {name: typed(program, torch.from_numpy(frames), name) for name in DTYPES}
    return Case(calibration, frames, graph, programs, cache(lambda: to_onnx(programs['fp16'])))


@torch.inference_mode()
def outputs(graph: Callable[[Tensor], tuple[Tensor, ...]], frames: np.ndarray) -> EngineOutput:
    return EngineOutput(*(t.numpy() for t in graph(torch.from_numpy(frames))))


def test_every_precision_computes_the_network(case: Case) -> None:
    probe = ProbeSet.of(case.frames[None], [outputs(case.graph, case.frames)])
    bound = BOUNDS['fp32'].score_error * probe.spread
    assert bound > 1e-4
    full, half, brief = (
        probe.parity([outputs(case.programs[name].module(), case.frames)])
        for name in ('fp32', 'fp16', 'bf16')
    )
    assert full.label_agreement > 0.999
    # The bounds of an artifact; bf16 may miss that of the labels where these are random.
    assert half.label_agreement > 0.99
    assert brief.label_agreement > 0.97
    assert full.score_error < bound / 100
    # None is the same program once more, and fewer digits make more of an error.
    assert full.score_error < half.score_error < brief.score_error < bound


def test_16_bits_halve_the_weights(case: Case) -> None:
    def weights(name: str) -> int:
        return sum(tensor.nbytes for tensor in case.programs[name].state_dict.values())

    assert weights('fp16') < 0.56 * weights('fp32')
    assert weights('bf16') == weights('fp16')
    types = {tensor.dtype for tensor in case.programs['bf16'].state_dict.values()}
    assert torch.bfloat16 in types and torch.float16 not in types


def built(case: Case, folder: Path, capabilities: list[str]) -> list[Artifact]:
    plan = Plan(['tensorrt-rtx'], 'fp16', capabilities)
    written = tensorrt_rtx.build_engines(case.onnx(), 1, plan, folder)
    probe = ProbeSet.of(case.frames[None], [outputs(case.graph, case.frames)])
    return [bundle._proven(one, probe, case.calibration, folder) for one in written]


def test_builds_an_engine(case: Case, tmp_path: Path) -> None:
    [artifact] = built(case, tmp_path, ['8.9'])
    file = tmp_path / 'tensorrt-rtx-sm89.engine'
    assert artifact.file == file.name
    # The magic number of the library's engines.
    assert file.read_bytes()[:4] == b'vtrt'
    weights = sum(tensor.nbytes for tensor in case.programs['fp16'].state_dict.values())
    assert file.stat().st_size > weights
    assert artifact.sha256 == sha256(file)
    assert artifact.parity is None and artifact.precision == 'fp16'
    assert artifact.tensorrt is not None
    assert artifact.tensorrt.flavour == 'tensorrt_rtx'
    assert trt.__version__.startswith(f'{artifact.tensorrt.version}.')


@pytest.mark.parametrize('case', [compact], indirect=True)
def test_builds_for_several_gpus(case: Case, tmp_path: Path) -> None:
    artifacts = built(case, tmp_path, ['8.6', '8.9', '8.6'])
    assert [a.tensorrt and a.tensorrt.compute_capability for a in artifacts] == ['8.6', '8.9']
    assert [a.file for a in artifacts] == [
        'tensorrt-rtx-sm86.engine',
        'tensorrt-rtx-sm89.engine',
    ]
    assert [sha256(tmp_path / a.file) for a in artifacts] == [a.sha256 for a in artifacts]
    assert artifacts[0].sha256 != artifacts[1].sha256


def test_onnx_is_whole_and_anonymous(case: Case) -> None:
    data = case.onnx()
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model)
    (source,) = model.graph.input
    shape = [d.dim_value for d in source.type.tensor_type.shape.dim]
    assert (source.name, shape) == ('frames', list(case.frames.shape))
    assert source.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [output.name for output in model.graph.output] == [*EngineOutput._fields]
    # Bytes are cast before they are transposed: TensorRT takes uint8 at the border only.
    (first,) = [node for node in model.graph.node if 'frames' in node.input]
    assert first.op_type == 'Cast'
    assert str(Path(__file__).parents[3]).encode() not in data


def test_what_pytorch_cannot_turn_into_onnx_is_refused_in_words() -> None:
    class Graph(nn.Module):
        def forward(self, frames: Tensor) -> Tensor:
            return torch.special.bessel_j0(frames.float())

    program = torch.export.export(Graph(), (torch.zeros(1, 8, 8, 3, dtype=torch.uint8),))
    with pytest.raises(MultishiftError, match='bessel_j0.*another target') as fault:
        to_onnx(program)
    assert '\n' not in str(fault.value)


# Apart, so that both have the case of the tests above.
@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('case', [compact], indirect=True)
def test_bundle_names_what_was_not_run(case: Case, tmp_path: Path, precision: Precision) -> None:
    export_bundle(
        tmp_path / 'bundle',
        case.graph,
        calibration=case.calibration,
        probes=case.frames[None],
        targets=Plan(['tensorrt-rtx'], precision, ['8.9'], tmp_path / 'network.onnx'),
        model='any',
        method='none',
        classes=[ClassEntry(name=str(i), color=(i, 0, 0)) for i in range(CLASSES)],
        provenance={},
    )
    manifest = read_manifest(tmp_path / 'bundle')
    (artifact,) = manifest.artifacts
    assert (artifact.backend, artifact.precision, artifact.parity) == ('tensorrt', precision, None)
    assert manifest.hashes.keys() == {'probe.npz', 'tensorrt-rtx-sm89.engine'}
    assert all(sha256(tmp_path / 'bundle' / n) == h for n, h in manifest.hashes.items())
    assert 'tensorrt-rtx-cu13' in manifest.provenance['software']
    onnx.checker.check_model(onnx.load(tmp_path / 'network.onnx'))


def test_operators_at_fault_are_named(tmp_path: Path) -> None:
    node = onnx.helper.make_node('Det', ['x'], ['y'])
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (('x', [2, 2]), ('y', []))
    ]
    graph = onnx.helper.make_graph([node], 'graph', ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 18)])
    with pytest.raises(MultishiftError, match=r'operators at fault: Det \(') as fault:
        EngineBuilder(trt, 'TensorRT for RTX', model.SerializeToString())
    assert '\n' not in str(fault.value)

# SPDX-License-Identifier: Apache-2.0
"""What is done to a program for OpenVINO alone: its upsampling, and 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import importlib
from pathlib import Path
import sys

import numpy as np
import openvino as ov
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_perception.engine import Engine
from multishift_perception.engine.manifest import Calibration, ClassEntry, read_manifest
from multishift_perception.engine.probe import BOUNDS, ProbeSet
from multishift_perception.engine.types import EngineOutput
from multishift_perception.errors import MultishiftError
from multishift_training import models
from multishift_training.export import Plan, check_plan, export_bundle, quantize
from multishift_training.export import bundle as exported
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.openvino_graph import (
    after_last_product,
    leave_batch_open,
    speed_up_upsampling,
)
from multishift_training.export.quantize import quantized
from multishift_training.export.targets.openvino import _check_batches
from multishift_training.export.written import Written

CLASSES = 5


class Resize(nn.Module):
    """A convolution of resized images, resized once more, with its argmax."""

    def __init__(self, size: tuple[int, int], *, align_corners: bool) -> None:
        super().__init__()
        self.size = size
        self.align_corners = align_corners
        self.classifier = nn.Conv2d(4, 3, 1)

    def resized(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size=size, mode='bilinear', align_corners=self.align_corners)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.resized(self.classifier(self.resized(x, (6, 9))), self.size)
        return logits, logits.argmax(1)


def kinds(model: ov.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


def run(model: ov.Model, x: np.ndarray) -> list[np.ndarray]:
    options = {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 1}
    results = ov.Core().compile_model(model, 'CPU', options)([x])
    return [results[i] for i in range(2)]


class Rows(nn.Module):
    """Takes the rows of all frames together, or those of each frame."""

    def __init__(self, *, together: bool) -> None:
        super().__init__()
        self.shape = (4, 15) if together else (1, 4 * 15)

    def forward(self, frames: Tensor) -> Tensor:
        return frames.float().reshape(self.shape) * 2


def of_rows(*, together: bool) -> ov.Model:
    frames = torch.zeros(1, 4, 5, 3, dtype=torch.uint8)
    model = ov.convert_model(torch.export.export(Rows(together=together), (frames,)))
    model.reshape(list(frames.shape))
    leave_batch_open(model)
    return model


def test_a_model_is_called_with_other_batch_sizes() -> None:
    model = of_rows(together=False)
    _check_batches(model, [1, 2])
    model.reshape([2, 4, 5, 3])
    frames = np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3)
    (found,) = ov.Core().compile_model(model, 'CPU')([frames]).values()
    np.testing.assert_array_equal(found, frames.reshape(2, 60) * 2.0)


def test_a_model_that_mixes_frames_is_called_with_one_size() -> None:
    with pytest.raises(MultishiftError, match='with 2 frames beside 1 .* with one --batch'):
        _check_batches(of_rows(together=True), [1, 2])


@pytest.mark.slow
@pytest.mark.parametrize('align_corners', [True, False])
@pytest.mark.parametrize('size', [(23, 31), (6, 9), (3, 4), (1, 20), (40, 1)])
def test_final_upsampling_becomes_products(size: tuple[int, int], align_corners: bool) -> None:
    torch.manual_seed(0)
    network = Resize(size, align_corners=align_corners)
    x = torch.randn(2, 4, 5, 7)
    model = ov.convert_model(torch.export.export(network, (x,)))
    model.reshape(list(x.shape))
    assert kinds(model).count('Interpolate') == 2
    speed_up_upsampling(model)
    # The one between products stays.
    assert kinds(model).count('Interpolate') == 1
    with torch.inference_mode():
        logits, labels = (t.numpy() for t in network(x))
    found, found_labels = run(model, x.numpy())
    assert found.shape == logits.shape
    assert np.abs(found - logits).max() < 1e-5
    # The argmax is of the very logits that come out.
    assert np.array_equal(found_labels, found.argmax(1))
    assert np.mean(found_labels == labels) > 0.99


def test_equal_logits_give_the_lowest_class() -> None:
    network = Resize((23, 31), align_corners=True)
    with torch.no_grad():
        network.classifier.weight[2] = network.classifier.weight[1]
        network.classifier.bias[2] = network.classifier.bias[1]
    x = torch.randn(1, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    model = ov.convert_model(torch.export.export(network, (x,)))
    model.reshape(list(x.shape))
    speed_up_upsampling(model)
    assert set(np.unique(run(model, x.numpy())[1])) == {0, 1}


def test_weights_are_exact_in_sixteen_bits(tmp_path: Path) -> None:
    """Stored in half, fractions would not add up to 1: a constant image would change."""
    network = Resize((23, 31), align_corners=True).eval()
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = torch.zeros(1, 4, 5, 7)
    model = ov.convert_model(torch.export.export(network, (x,)))
    model.reshape(list(x.shape))
    speed_up_upsampling(model)
    ov.save_model(model, tmp_path / 'model.xml', compress_to_fp16=True)
    found, _ = run(ov.Core().read_model(tmp_path / 'model.xml'), x.numpy())
    assert np.abs(found - np.array([1, 2, 3]).reshape(3, 1, 1)).max() < 1e-6


def frames(count: int) -> list[np.ndarray]:
    """Batches of one frame of blocks."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 1, 8, 12, 3), np.uint8)
    return list(coarse.repeat(8, axis=2).repeat(8, axis=3))


@pytest.fixture(scope='module')
def bundle(tmp_path_factory: pytest.TempPathFactory, many_segments: Calibration) -> Path:
    torch.manual_seed(0)
    model = models.create('deeplabv3plus_compact', CLASSES)
    path = tmp_path_factory.mktemp('bundles') / 'bundle'
    samples = frames(6)
    export_bundle(
        path,
        DeployGraph(model, many_segments),
        calibration=many_segments,
        probes=np.stack(samples[:2]),
        targets=Plan(['openvino', 'torch'], 'int8'),
        samples=samples,
        model='deeplabv3plus_compact',
        method='none',
        classes=[ClassEntry(name=str(i), color=(i, 0, 0)) for i in range(CLASSES)],
        provenance={},
    )
    return path


@pytest.mark.slow
def test_int8_bundle_says_so_and_runs(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert {a.backend: a.precision for a in manifest.artifacts} == {
        'openvino': 'int8',
        'torch': 'fp32',
    }
    assert 'nncf ' in manifest.provenance['software']
    probe = ProbeSet.load(bundle / 'probe.npz')
    with Engine.load(bundle, backend='openvino') as engine:
        parity = probe.parity([engine.infer(batch) for batch in probe.frames])
    # It does compute in 8 bits.
    assert 1e-4 < parity.score_error / probe.spread < BOUNDS['int8'].score_error
    assert parity.label_agreement >= BOUNDS['int8'].label_agreement


def test_the_word_of_a_compiler_without_a_gpu_is_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As of PyTorch built for CUDA, when NNCF first imports this."""
    name = 'torch.utils.cpp_extension'
    monkeypatch.setattr(torch.utils, 'cpp_extension', importlib.import_module(name))
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(torch.cuda, '_is_compiled', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with quantize._quiet():
        assert importlib.import_module(name).CUDA_HOME == str(tmp_path)
    assert caplog.records == []


@pytest.mark.slow
def test_int8_compiles_without_avx512(bundle: Path, older_cpu: Callable[..., None]) -> None:
    older_cpu(bundle)


@pytest.mark.slow
def test_int8_leaves_both_ends_in_float32(bundle: Path) -> None:
    model = ov.Core().read_model(bundle / 'openvino.xml')
    products = [n for n in model.get_ordered_ops() if 'Convolution' in n.get_type_name()]
    # The first, and the two that give values for each class: classifier and uncertainty head.
    ends = [products[0], *(n for n in products if n.get_output_shape(0)[1] == CLASSES)]
    in_bytes = {n.get_name(): _reads_bytes(n.input_value(1).get_node()) for n in products}
    assert [in_bytes[node.get_name()] for node in ends] == [False] * 3
    assert sum(in_bytes.values()) > 20
    tail = {node.get_name() for node in after_last_product(model)}
    assert not any(
        node.get_name() in tail
        for node in model.get_ordered_ops()
        if node.get_type_name() == 'FakeQuantize'
    )


def _reads_bytes(node: ov.Node) -> bool:
    """Say whether a weight is stored in 8 bits."""
    if node.get_type_name() == 'Constant':
        return node.get_element_type() in (ov.Type.i8, ov.Type.u8)
    return any(_reads_bytes(value.get_node()) for value in node.input_values())


class Wrong:
    """A backend that is right but for the labels of a share of the pixels."""

    def __init__(self, probe: ProbeSet, share: float, calibration: Calibration) -> None:
        self.probe = probe
        self.calibration = calibration
        self.share = share

    def run(self, batch: np.ndarray) -> EngineOutput:
        (index,) = (i for i, other in enumerate(self.probe.frames) if np.array_equal(other, batch))
        label = self.probe.label[index].copy()
        label.ravel()[: round(self.share * label.size)] += 1
        score = self.probe.score[index].repeat(4, axis=1).repeat(4, axis=2)
        anomaly = np.interp(score, *zip(*self.calibration.knots, strict=True)).astype(np.uint8)
        confidence = self.probe.confidence[index].repeat(4, axis=1).repeat(4, axis=2)
        return EngineOutput(label, score, anomaly, self.probe.look[index], confidence)

    def close(self) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize(('share', 'right'), [(0.005, 'fp32'), (0.03, 'int8'), (0.06, None)])
def test_bounds_are_those_of_the_precision(
    bundle: Path, share: float, right: str | None, many_segments: Calibration
) -> None:
    probe = ProbeSet.load(bundle / 'probe.npz')
    wrong = Wrong(probe, share, many_segments)
    accepted = []
    for precision in BOUNDS:
        try:
            probe.prove(wrong, many_segments, Path('x.xml'), precision, [1])
        except MultishiftError as error:
            assert 'of the labels agree' in str(error) and '\n' not in str(error)
        else:
            accepted.append(precision)
    expected = {'fp32': list(BOUNDS), 'int8': ['int8', 'fp8'], None: []}
    assert accepted == expected[right]


def test_what_is_too_coarse_goes_by_the_name_it_would_have_had(
    bundle: Path, many_segments: Calibration
) -> None:
    """And another build of the same would be as coarse."""
    probe = ProbeSet.load(bundle / 'probe.npz')
    other = replace(probe, score=probe.score[::-1])
    file = bundle / 'openvino.xml'
    written = Written('openvino', file, 'int8', {}, 'cpu', (file.with_suffix('.bin'),))
    with pytest.raises(MultishiftError) as fault:
        exported._proven(written, other, many_segments, Path('engine'))
    text = str(fault.value)
    assert text.startswith('engine/openvino.xml does not compute what was trained: ')
    assert text.endswith(
        ': build it with --precision fp32, which rounds less, or train the network longer'
    )


def test_missing_quantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'nncf', None)
    with pytest.raises(MultishiftError, match='int8 needs nncf .*pip install nncf'):
        check_plan(Plan(['openvino'], 'int8'))


def test_quantising_without_samples_is_a_mistake() -> None:
    model = ov.Model([], [], 'empty')
    with pytest.raises(ValueError, match='samples'):
        quantized(model, [])

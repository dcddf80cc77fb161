# SPDX-License-Identifier: Apache-2.0
"""The target that needs a GPU, up to the edge of the library, which fakes stand for here."""

from __future__ import annotations

from pathlib import Path
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from multishift_perception.engine import tensorrt_backend
from multishift_perception.engine.gpu import Gpu
from multishift_perception.engine.manifest import Artifact, Calibration
from multishift_perception.engine.probe import ProbeSet
from multishift_perception.engine.types import EngineOutput
from multishift_perception.errors import MultishiftError
from multishift_training.export import Plan, Precision, bundle, check_plan
from multishift_training.export.network import Network
from multishift_training.export.targets import tensorrt
from multishift_training.export.written import Written

FRAMES = torch.zeros(1, 8, 16, 3, dtype=torch.uint8)
OUTPUT = EngineOutput(
    np.zeros((1, 8, 16), np.uint8),
    np.arange(128, dtype=np.float32).reshape(1, 8, 16),
    np.zeros((1, 8, 16), np.uint8),
)
PROBE = ProbeSet.of(FRAMES.numpy()[None], [OUTPUT])
# Of nothing but zeros.
CALIBRATION = Calibration(
    knots=[(200.0, 0.0), (300.0, 255.0)], operating_point=250.0, rule='made up', dataset='none'
)


class Backend:
    """Stands for the engine on its GPU."""

    output = OUTPUT

    def __init__(self, file: Path, device: str) -> None:
        assert device == 'cpu:0'
        assert file.read_bytes() == b'engine'

    def run(self, frames: np.ndarray) -> EngineOutput:
        return self.output

    def close(self) -> None:
        pass


class Library(SimpleNamespace):
    """Stands for torch_tensorrt; keeps the arguments of the last conversion."""

    def __init__(self) -> None:
        super().__init__(ENABLED_FEATURES=SimpleNamespace(tensorrt_rtx=False))
        self.dynamo = SimpleNamespace(convert_exported_program_to_serialized_trt_engine=self._run)
        self.unsupported: set[str] = set()
        self.tensorrt = TensorRt()

    def _run(self, program: Any, **options: Any) -> bytes:
        self.options = options
        if self.unsupported:
            raise RuntimeError('Conversion\nfailed')
        return b'engine'


class TensorRt(SimpleNamespace):
    """Stands for TensorRT itself, as far as engines are built from ONNX by it."""

    class ILogger:
        ERROR, INTERNAL_ERROR = range(2)

    def __init__(self) -> None:
        flags = SimpleNamespace(STRONGLY_TYPED=3)
        super().__init__(__version__='11.1.0.106', NetworkDefinitionCreationFlag=flags)
        self.outputs = [SimpleNamespace(name=name) for name in EngineOutput._fields]
        self.cached: list[bytes] = []

    def Builder(self, logger: Any) -> SimpleNamespace:
        return SimpleNamespace(
            create_network=self._create_network,
            create_builder_config=lambda: SimpleNamespace(
                create_timing_cache=bytes,
                set_timing_cache=lambda cache, mismatch: self.cached.append(cache),
                get_timing_cache=lambda: SimpleNamespace(serialize=lambda: b'times'),
            ),
            build_serialized_network=lambda network, config: b'engine',
        )

    def OnnxParser(self, network: Any, logger: Any) -> SimpleNamespace:
        return SimpleNamespace(parse=lambda onnx: onnx == b'onnx')

    def _create_network(self, flags: int) -> SimpleNamespace:
        assert flags == 1 << 3
        return SimpleNamespace(get_output=self.outputs.__getitem__)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    library = Library()
    modules: dict[str, Any] = {
        'torch_tensorrt': library,
        'tensorrt': library.tensorrt,
        'torch_tensorrt.dynamo': library.dynamo,
        'torch_tensorrt.dynamo.conversion': ModuleType('conversion'),
        'torch_tensorrt.dynamo.lowering': ModuleType('lowering'),
    }

    class Converters:
        def __contains__(self, node: torch.fx.Node) -> bool:
            return str(node.target) not in library.unsupported

    modules['torch_tensorrt.dynamo.conversion'].DYNAMO_CONVERTERS = Converters()
    modules['torch_tensorrt.dynamo.lowering'].get_decompositions = dict
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(tensorrt, '_DEVICE', torch.device('cpu', 0))
    monkeypatch.setattr(tensorrt_backend, 'TensorRtBackend', Backend)
    monkeypatch.setattr(tensorrt, 'find_gpu', lambda index: Gpu('NVIDIA Orin', '8.7'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return library


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)


@pytest.fixture(scope='module')
def program() -> torch.export.ExportedProgram:
    class Graph(nn.Module):
        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return frames.float().sin().relu()

    return torch.export.export(Graph(), (FRAMES,))


def proven(written: Written) -> Artifact:
    """Compare as a build does."""
    return bundle._proven(written, PROBE, CALIBRATION, Path('bundle'))


def write(program: torch.export.ExportedProgram, folder: Path) -> list[Written]:
    network = Network(program, FRAMES)
    network.typed = lambda precision: program  # type: ignore[method-assign]
    return list(tensorrt.write(network, Plan(['tensorrt']), folder))


def test_engine_belongs_to_this_gpu(
    library: Library, program: torch.export.ExportedProgram, tmp_path: Path
) -> None:
    (written,) = write(program, tmp_path)
    artifact = proven(written)
    assert artifact.file == 'tensorrt-sm87.engine'
    assert artifact.tensorrt.flavour == 'tensorrt'
    assert artifact.tensorrt.version == '11.1.0'
    assert artifact.tensorrt.compute_capability == '8.7'
    assert artifact.tensorrt.gpu == 'NVIDIA Orin'
    assert artifact.parity.label_agreement == 1
    options = library.options
    assert options['require_full_compilation']
    assert options['arg_input_binding_names'] == ('frames',)
    assert options['output_binding_names'] == EngineOutput._fields
    # Times of kernels outlive the build, and lie in no temporary folder.
    cache = Path(options['timing_cache_path'])
    assert cache.parent.is_dir() and cache.is_relative_to(tmp_path / 'cache')


def test_each_batch_size_has_an_engine(
    library: Library,
    program: torch.export.ExportedProgram,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Network, 'typed', lambda self, precision: self.program)
    exported: list[int] = []

    def export(frames: torch.Tensor) -> torch.export.ExportedProgram:
        exported.append(len(frames))
        return program

    plan = Plan(['tensorrt'], batches=(4, 1))
    written = list(tensorrt.write(Network(program, FRAMES, export=export), plan, tmp_path))
    assert [(w.file.name, *w.batches) for w in written] == [
        ('tensorrt-sm87-batch1.engine', 1),
        ('tensorrt-sm87-batch4.engine', 4),
    ]
    assert exported == [4]  # the program itself is for one frame
    assert library.options['arg_inputs'][0].shape == (4, *FRAMES.shape[1:])


@pytest.mark.parametrize('precision', ['int8', 'fp8'])
def test_8_bits_are_built_from_nodes_of_onnx(
    library: Library,
    program: torch.export.ExportedProgram,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
) -> None:
    monkeypatch.setattr(Network, 'typed', lambda self, asked: {precision: program}[asked])
    monkeypatch.setattr(tensorrt, 'to_onnx', {program: b'onnx'}.__getitem__)
    for _ in range(2):
        plan = Plan(['tensorrt'], precision)
        (written,) = tensorrt.write(Network(program, FRAMES), plan, tmp_path)
    assert (written.file.read_bytes(), written.precision) == (b'engine', precision)
    # By the names that the library of this fake looks for.
    assert [output.name for output in library.tensorrt.outputs] == [
        f'output{i}' for i in range(len(EngineOutput._fields))
    ]
    # What was measured stays for the next build.
    assert library.tensorrt.cached == [b'', b'times']


def test_precision_that_the_gpu_lacks(
    library: Library, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_plan(Plan(['tensorrt'], 'int8'))
    with pytest.raises(MultishiftError, match=r'^GPUs of compute capability 8\.7 have no fp8: '):
        check_plan(Plan(['tensorrt'], 'fp8'))
    monkeypatch.setattr(tensorrt, 'find_gpu', lambda index: Gpu('Tesla T4', '7.5'))
    with pytest.raises(MultishiftError, match=r'^GPUs of compute capability 7\.5 have no bf16: '):
        check_plan(Plan(['tensorrt'], 'bf16'))


def test_engine_that_computes_otherwise_is_refused(
    library: Library,
    program: torch.export.ExportedProgram,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (written,) = write(program, tmp_path)
    monkeypatch.setattr(Backend, 'output', OUTPUT._replace(score=OUTPUT.score + 100))
    with pytest.raises(
        MultishiftError,
        match=f'^{Path("bundle") / written.file.name} does not compute what was trained',
    ):
        proven(written)


def test_operators_at_fault_are_named(
    library: Library, program: torch.export.ExportedProgram, tmp_path: Path
) -> None:
    library.unsupported = {'aten.sin.default'}
    with pytest.raises(MultishiftError, match=r'at fault: aten\.sin\.default \(Conv.* failed\)'):
        write(program, tmp_path)
    assert list(tmp_path.glob('*.engine')) == []


def test_machine_with_gpu_and_library_passes(library: Library, gpu: None) -> None:
    check_plan(Plan(['tensorrt']))


def test_library_of_the_other_flavour(library: Library, gpu: None) -> None:
    library.ENABLED_FEATURES.tensorrt_rtx = True
    with pytest.raises(MultishiftError, match='--target tensorrt-rtx'):
        check_plan(Plan(['tensorrt']))


def test_missing_library(library: Library, gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'torch_tensorrt', None)
    with pytest.raises(MultishiftError, match='pip install torch_tensorrt$'):
        check_plan(Plan(['tensorrt']))

# SPDX-License-Identifier: Apache-2.0
"""The CUDA path without a GPU: the order of its steps, with fakes at the edge."""

from __future__ import annotations

import logging
from pathlib import Path
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from multishift_perception.engine import Engine, cuda_runner, selection, torch_backend
from multishift_perception.engine.cuda_runner import CudaBackend, CudaRunner, gpu_faults
from multishift_perception.engine.gpu import Gpu
from multishift_perception.engine.tensorrt_backend import TensorRtBackend
from multishift_perception.errors import MultishiftError

CPU = torch.device('cpu')


def compute(frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return frames[..., 0] + 0, frames.float().mean(-1), frames[..., 2] + 0


def frames(value: int) -> np.ndarray:
    return np.full((1, 4, 6, 3), (value, 2 * value, 3 * value), np.uint8)


def test_replays_what_it_captured(cuda: Any) -> None:
    runner = CudaRunner(compute, (1, 4, 6, 3), CPU)
    for count, value in enumerate((10, 20), start=1):
        output = runner.run(frames(value))
        assert cuda.count('replay') == count
        assert np.all(output.label == value)
        assert np.all(output.score == 2 * value)
        assert np.all(output.anomaly == 3 * value)
        assert output.label.dtype == np.uint8


def test_outputs_belong_to_the_caller(cuda: Any) -> None:
    runner = CudaRunner(compute, (1, 4, 6, 3), CPU)
    first = runner.run(frames(10))
    runner.run(frames(20))
    assert np.all(first.label == 10)


def test_each_batch_size_has_a_stream_and_a_graph_of_its_own(cuda: Any) -> None:
    backend = CudaBackend(Path('engine'), CPU)
    backend._network = compute
    for count in (1, 2, 1, 2):
        shown = frames(10).repeat(count, axis=0)
        assert np.all(backend._runner(shown.shape[:3]).run(shown).label == 10)
    assert cuda.count('capture') == 2
    assert cuda.count('replay') == 4
    one, two = cuda.streams
    assert cuda.captured_on == [one, two]
    assert cuda.used == [one, one, two, two, one, two]


def test_network_that_cannot_be_captured_runs_and_says_so(
    cuda: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.capture_error = RuntimeError('operation not permitted\nwhen stream is capturing')
    runner = CudaRunner(compute, (1, 4, 6, 3), CPU)
    assert np.all(runner.run(frames(10)).label == 10)
    assert cuda.count('replay') == 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert 'without CUDA graph, slower: operation not permitted when' in record.message


def test_too_little_memory_is_said_and_freed_for_another_trial(cuda: Any) -> None:
    with (
        pytest.raises(MultishiftError, match=r'cuda:0 has too little free memory for a\.pt2 \(20'),
        gpu_faults(Path('a.pt2'), torch.device('cuda:0')),
    ):
        raise torch.OutOfMemoryError('20 GiB needed')
    assert cuda.emptied == 1


@pytest.mark.parametrize(
    'words', ['CUDA error: out of memory', 'cuDNN error: CUDNN_STATUS_ALLOC_FAILED']
)
def test_too_little_memory_for_kernels_and_libraries(cuda: Any, words: str) -> None:
    with (
        pytest.raises(MultishiftError, match=rf'too little free memory for a\.pt2 \({words}\)'),
        gpu_faults(Path('a.pt2'), torch.device('cuda:0')),
    ):
        raise RuntimeError(words)
    assert cuda.emptied == 1


@pytest.mark.slow
@pytest.mark.parametrize('step', ['load', 'first call'])
def test_engine_loads_once_the_gpu_has_memory(
    cuda: Any, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """What a node does that is configured again after it failed."""
    shortage = torch.OutOfMemoryError('Tried to allocate 20 GiB')
    fails = [step]

    def move(program, device):
        if 'load' in fails:
            raise shortage
        return program

    def runner(network, shape, device, steps):
        if 'first call' in fails:
            raise shortage
        return CudaRunner(network, shape, CPU, steps)

    monkeypatch.setattr(selection, 'find_gpu', lambda index: Gpu('NVIDIA L4', '8.9'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch_backend, 'move_to_device_pass', move)
    monkeypatch.setattr(cuda_runner, 'CudaRunner', runner)
    with pytest.raises(MultishiftError, match='cuda:0 has too little free memory') as fault:
        Engine.load(tiny_bundle)
    assert '\n' not in str(fault.value)
    assert cuda.emptied > 0
    fails.clear()
    cuda.capture_error = RuntimeError('no graph here')
    with Engine.load(tiny_bundle) as engine:
        assert (engine.backend, engine.device) == ('torch', 'cuda:0')


class TestTensorRt:
    @pytest.fixture(autouse=True, params=['2.12', '2.14'])
    def library(
        self, cuda: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        """The names of torch_tensorrt that we use, in both versions."""

        def build_2_12(exported_program, *, arg_inputs, **kwargs): ...

        def build_2_14(exported_program, *, arg_inputs, output_binding_names): ...

        build = build_2_12 if request.param == '2.12' else build_2_14
        outputs = {
            '2.12': ['output0', 'output1', 'output2', 'output3', 'output4'],
            '2.14': ['label', 'score', 'anomaly', 'look', 'confidence'],
        }
        dynamo = SimpleNamespace(
            CompilationSettings=lambda device: device,
            convert_exported_program_to_serialized_trt_engine=build,
        )

        def module(engine, *, input_binding_names, output_binding_names, settings):
            assert input_binding_names == ['frames']
            names = outputs[request.param]
            assert output_binding_names == names[: len(output_binding_names)]
            assert settings == 0
            if engine not in (b'whole', b'older'):
                raise RuntimeError('Unable to\ndeserialize the TensorRT engine')
            if len(output_binding_names) > (4 if engine == b'older' else 5):
                raise RuntimeError(f'Binding {output_binding_names[-1]} is not there')
            return compute

        modules: dict[str, dict[str, object]] = {
            'torch_tensorrt': {'Device': lambda gpu_id: gpu_id, 'dynamo': dynamo},
            'torch_tensorrt.runtime': {'TorchTensorRTModule': module},
        }
        for name, content in modules.items():
            fake = ModuleType(name)
            vars(fake).update(content)
            monkeypatch.setitem(sys.modules, name, fake)
        monkeypatch.setattr(
            'multishift_perception.engine.cuda_runner.CudaRunner',
            lambda network, shape, device, steps: CudaRunner(network, shape, CPU),
        )

    @pytest.mark.parametrize('content', [b'whole', b'older'])
    def test_runs_an_engine(self, content: bytes, tmp_path: Path) -> None:
        file = tmp_path / 'tensorrt-sm89.engine'
        file.write_bytes(content)
        backend = TensorRtBackend(file, 'cuda:0')
        assert np.all(backend.run(frames(10)).anomaly == 30)
        backend.close()

    def test_truncated_engine_then_a_whole_one(self, tmp_path: Path) -> None:
        file = tmp_path / 'tensorrt-sm89.engine'
        file.write_bytes(b'who')
        with pytest.raises(MultishiftError, match=r'cuda:0 cannot run .*sm89\.engine \(Unable to'):
            TensorRtBackend(file, 'cuda:0')
        file.write_bytes(b'whole')
        assert np.all(TensorRtBackend(file, 'cuda:0').run(frames(1)).label == 1)

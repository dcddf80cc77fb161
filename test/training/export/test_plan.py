# SPDX-License-Identifier: Apache-2.0
"""What this machine cannot build is refused at once, in one line with the mend."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import shutil
import sys
from typing import Any

from click.testing import CliRunner
import onnx
import pytest
from safetensors.torch import save_file
import torch

from multishift_perception.cli.main import multishift
from multishift_perception.errors import MultishiftError
from multishift_training.export import Plan, check_plan


def fault(plan: Plan) -> str:
    with pytest.raises(MultishiftError) as caught:
        check_plan(plan)
    text = str(caught.value)
    assert '\n' not in text
    return text


def test_what_this_machine_can_build_passes(tmp_path: Path) -> None:
    check_plan(
        Plan(['openvino', 'torch', 'tensorrt-rtx'], 'fp16', ['7.5', '12.0'], tmp_path / 'x')
    )


@pytest.mark.parametrize('unsupported', ['8.7', '8.0'])
def test_gpu_that_the_library_does_not_support(unsupported: str) -> None:
    text = fault(Plan(['tensorrt-rtx'], capabilities=['8.9', unsupported]))
    assert f'no compute capability {unsupported}: choose from 7.5, 8.6, 8.9, 12.0, 12.1;' in text
    assert '--target tensorrt`' in text


def test_precision_that_the_gpu_lacks() -> None:
    check_plan(Plan(['tensorrt-rtx'], 'bf16', ['8.6', '12.0']))
    text = fault(Plan(['tensorrt-rtx'], 'bf16', ['8.6', '7.5']))
    assert text.startswith('GPUs of compute capability 7.5 have no bf16')
    assert '--precision fp16' in text
    check_plan(Plan(['openvino', 'tensorrt-rtx'], 'fp8', ['8.9', '12.0']))
    text = fault(Plan(['tensorrt-rtx'], 'fp8', ['8.9', '8.6']))
    assert text.startswith('GPUs of compute capability 8.6 have no fp8')


@pytest.mark.parametrize(
    ('plan', 'able', 'asked', 'mend'),
    [
        (
            Plan(['tensorrt-rtx'], 'int8', ['8.9']),
            'openvino or tensorrt',
            'tensorrt-rtx',
            'build a bundle of its own for tensorrt-rtx, with --precision fp16',
        ),
        (
            Plan(['tensorrt-rtx', 'openvino'], 'int8', ['8.9']),
            'openvino or tensorrt',
            'openvino, tensorrt-rtx',
            'build a bundle of its own for tensorrt-rtx, with --precision fp16',
        ),
        (Plan(['torch'], 'int8'), 'openvino or tensorrt', 'torch', 'give --target openvino too'),
        (
            Plan(['openvino', 'torch'], 'fp8'),
            'tensorrt or tensorrt-rtx',
            'openvino, torch',
            'give --target tensorrt too',
        ),
        (
            Plan(['torch'], 'bf16'),
            'tensorrt or tensorrt-rtx',
            'torch',
            'give --target tensorrt too',
        ),
    ],
)
def test_a_precision_that_the_target_does_not_take(
    plan: Plan, able: str, asked: str, mend: str
) -> None:
    text = fault(plan)
    assert text == f'--precision {plan.precision} is for --target {able}, not {asked}: {mend}'


@pytest.mark.parametrize(('batches', 'odd'), [((2, 3), 3), ((4, 6, 8), 6)])
def test_calls_that_are_no_multiple_of_the_least(batches: tuple[int, ...], odd: int) -> None:
    least = min(batches)
    assert f'--batch {odd} is no multiple of the least, {least}' in fault(Plan(batches=batches))
    check_plan(Plan(batches=(1, *batches)))


@pytest.mark.parametrize('plan', [Plan(['tensorrt-rtx']), Plan(capabilities=['8.9'])])
def test_ahead_of_time_goes_with_a_gpu(plan: Plan) -> None:
    assert '--target tensorrt-rtx --compute-capability 8.9' in fault(plan)


@pytest.mark.parametrize(
    ('missing', 'plan'),
    [
        ('tensorrt_rtx', Plan(['tensorrt-rtx'], capabilities=['8.9'])),
        ('onnxscript', Plan(['tensorrt-rtx'], capabilities=['8.9'])),
        ('onnx', Plan(onnx=Path('network.onnx'))),
    ],
)
def test_missing_library(monkeypatch: pytest.MonkeyPatch, missing: str, plan: Plan) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    text = fault(plan)
    assert f'needs {missing} (' in text
    assert 'pip install ' in text and 'onnxscript' in text
    assert ('tensorrt-rtx-cu13' in text) == (missing == 'tensorrt_rtx')


def test_building_for_the_gpu_that_is_not_there() -> None:
    text = fault(Plan(['tensorrt']))
    assert 'PyTorch finds none here: run it on the vehicle' in text


@pytest.mark.parametrize(
    'command',
    [
        ['engine', 'build', 'w.safetensors'],
        ['import-checkpoint', 'w.safetensors', '--model', 'deeplabv3plus_wideresnet38'],
    ],
)
def test_refused_before_the_weights_are_read(
    tmp_path: Path,
    command: list[str],
    content: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    metadata = {'config': json.dumps(content()), 'metrics': '{}'}
    save_file({'of no network': torch.zeros(1)}, 'w.safetensors', metadata)
    options = ['--target', 'tensorrt-rtx', '--compute-capability', '5.0']
    result = CliRunner().invoke(multishift, [*command, '--out', 'b', *options])
    assert result.exit_code != 0
    assert isinstance(result.exception, MultishiftError)
    assert 'no compute capability 5.0' in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ['w.safetensors']


COMMANDS = (
    ['engine', 'build', 'run/best.safetensors'],
    ['import-checkpoint', 'run/best.safetensors', '--model', 'deeplabv3plus_wideresnet38'],
)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> Path:
    """The current folder: a run, papers, an old bundle, and an ONNX model of somebody's."""
    shutil.copytree(tiny_bundle, tmp_path / 'bundle')
    for name in ('run/best.safetensors', 'papers/a.pdf', 'other.onnx', 'old.onnx'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'something')
    (tmp_path / 'old.onnx').write_bytes(network('label', 'score', 'anomaly', 'look'))
    (tmp_path / 'yours.onnx').write_bytes(network('boxes'))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def network(*outputs: str) -> bytes:
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in outputs
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph([], 'graph', [], values))
    return bytes(model.SerializeToString())


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(multishift, arguments)
    assert isinstance(result.exception, MultishiftError)
    assert '\n' not in str(result.exception)
    return str(result.exception)


@pytest.mark.slow
@pytest.mark.parametrize('command', COMMANDS, ids=['build', 'import'])
def test_what_is_no_bundle_is_refused_before_the_checkpoint_is_read(
    command: list[str], work: Path
) -> None:
    before = sorted(work.rglob('*'))
    for out in ('.', '/', '..', 'run', 'papers', 'run/best.safetensors', 'papers/a.pdf/engine'):
        assert 'give another folder with --out' in refusal(*command, '--out', out)
    for onnx_file in ('other.onnx', 'yours.onnx', 'run', 'run/best.safetensors', 'bundle/a.onnx'):
        text = refusal(*command, '--out', 'bundle', '--onnx', onnx_file, '--force')
        assert 'name another file' in text
    text = refusal(*command, '--out', 'bundle', '--onnx', 'old.onnx')
    assert text == 'old.onnx exists: give --force to replace it, or name another file'
    # These may be replaced: what is at fault is read next.
    text = refusal(*command, '--out', 'bundle', '--onnx', 'old.onnx', '--force')
    assert 'best.safetensors' in text
    assert sorted(work.rglob('*')) == before

"""What this machine cannot build is refused at once, in one line with the mend."""

from __future__ import annotations

from pathlib import Path
import sys

from click.testing import CliRunner
import pytest

from multishift_perception.cli.main import multishift
from multishift_perception.errors import MultishiftError
from multishift_training.export import Plan


def fault(plan: Plan) -> str:
    with pytest.raises(MultishiftError) as caught:
        plan.check()
    text = str(caught.value)
    assert '\n' not in text
    return text


def test_what_this_machine_can_build_passes(tmp_path: Path) -> None:
    Plan(['openvino', 'torch', 'tensorrt-rtx'], 'fp16', ['7.5', '12.0'], tmp_path / 'x').check()


@pytest.mark.parametrize('unsupported', ['8.7', '8.0'])
def test_gpu_that_the_library_does_not_support(unsupported: str) -> None:
    text = fault(Plan(['tensorrt-rtx'], capabilities=['8.9', unsupported]))
    assert f'no compute capability {unsupported}: choose from 7.5, 8.6, 8.9, 12.0, 12.1;' in text
    assert '--target tensorrt`' in text


def test_precision_that_the_gpu_lacks() -> None:
    Plan(['tensorrt-rtx'], 'bf16', ['8.6', '12.0']).check()
    text = fault(Plan(['tensorrt-rtx'], 'bf16', ['8.6', '7.5']))
    assert text.startswith('GPUs of compute capability 7.5 have no bf16')
    assert '--precision fp16' in text


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
        ['engine', 'build', 'absent.safetensors'],
        ['import-checkpoint', 'absent.pth', '--model', 'deeplabv3plus_wideresnet38'],
    ],
)
def test_refused_before_the_checkpoint_is_read(tmp_path: Path, command: list[str]) -> None:
    options = ['--target', 'tensorrt-rtx', '--compute-capability', '5.0']
    result = CliRunner().invoke(multishift, [*command, '--out', str(tmp_path / 'b'), *options])
    assert result.exit_code != 0
    assert isinstance(result.exception, MultishiftError)
    assert 'no compute capability 5.0' in str(result.exception)
    assert list(tmp_path.iterdir()) == []

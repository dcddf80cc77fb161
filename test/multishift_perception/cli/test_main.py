# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
from pathlib import Path
import subprocess
import sys

from click.testing import CliRunner
import pytest

from multishift_perception import __version__
from multishift_perception.cli import main as cli
from multishift_perception.cli.verbosity import Plain
from multishift_perception.errors import MultishiftError
from multishift_perception.process.threads import wait_asleep


def multishift(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a user does."""
    return subprocess.run(
        [sys.executable, '-m', 'multishift_perception.cli.main', *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_help_loads_no_heavy_library() -> None:
    script = (
        'import sys; from multishift_perception.cli.main import multishift\n'
        'multishift.main(["--help"], standalone_mode=False)\n'
        'assert not {"torch", "openvino", "rclpy", "cv2"} & set(sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in (
        'demo',
        'sample-drive',
        'make-bag',
        'replay',
        'engine',
        'train',
        'compare',
        'import-checkpoint',
    ):
        assert command in done.stdout


def completed(words: str) -> tuple[list[str], str]:
    """Return what the shell is offered for the last word, and which heavy libraries that took."""
    script = (
        'import atexit, sys\n'
        'heavy = {"torch", "openvino", "rclpy", "transformers"}\n'
        'atexit.register(lambda: print(*heavy & set(sys.modules), file=sys.stderr))\n'
        'sys.argv = ["multishift"]\n'
        'from multishift_perception.cli import run\n'
        'run()'
    )
    asked = {
        '_MULTISHIFT_COMPLETE': 'bash_complete',
        'COMP_WORDS': words,
        'COMP_CWORD': str(len(words.split(' ')) - 1),
    }
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, env=os.environ | asked
    )
    assert done.returncode == 0, done.stderr
    offered = [line.rpartition(',')[2] for line in done.stdout.splitlines()]
    return offered, done.stderr.strip()


@pytest.mark.parametrize(
    ('words', 'offered'),
    [
        ('multishift m', ['make-bag', 'models']),
        ('multishift engine ', ['build', 'checkpoint', 'inspect', 'verify', 'bench', 'calibrate']),
        ('multishift train --max', ['--max-minutes']),
    ],
)
def test_shells_complete_words_without_heavy_libraries(words: str, offered: list[str]) -> None:
    assert completed(words) == (offered, '')


@pytest.mark.parametrize(
    'command',
    [
        ['demo'],
        ['sample-drive'],
        ['make-bag'],
        ['predict'],
        ['view'],
        ['replay'],
        ['augment'],
        ['train'],
        ['evaluate'],
        ['compare'],
        ['import-checkpoint'],
        ['models'],
        ['datasets'],
        ['engine', 'build'],
        ['engine', 'inspect'],
        ['engine', 'verify'],
        ['engine', 'bench'],
        ['engine', 'calibrate'],
    ],
    ids=' '.join,
)
def test_every_command_has_help(command: list[str]) -> None:
    result = CliRunner().invoke(cli.multishift, [*command, '--help'])
    assert result.exit_code == 0, result.output
    assert 'Usage:' in result.output
    assert r'\b' not in result.output  # else lines that should stay run into one another


@pytest.mark.slow
def test_threads_of_torch_sleep_while_they_wait() -> None:
    script = (
        'import contextlib, sys; from multishift_perception.cli.main import main\n'
        'sys.argv = ["multishift", "--version"]\n'
        'with contextlib.suppress(SystemExit): main()\n'
        'import torch'
    )
    # OpenMP says by itself how it is set, when torch loads it.
    env = {**os.environ, 'OMP_DISPLAY_ENV': 'verbose'}
    for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'):
        env.pop(name, None)
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "GOMP_SPINCOUNT = '0'" in done.stderr


def test_what_the_environment_says_of_waiting_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OMP_WAIT_POLICY', 'ACTIVE')
    wait_asleep()
    assert os.environ['OMP_WAIT_POLICY'] == 'ACTIVE'


def test_version() -> None:
    assert __version__ in CliRunner().invoke(cli.multishift, ['--version']).output


def test_users_fault_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = multishift('engine', 'verify', tmp_path / 'nowhere')
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith('multishift: engine bundle ')
    assert 'nowhere does not exist' in line


def test_names_of_files_do_not_steer_the_terminal() -> None:
    record = logging.makeLogRecord({'msg': '%s\tis left out', 'args': ('a\x1b[31m.jpg',)})
    assert Plain().format(record) == 'a\\x1b[31m.jpg\tis left out'


def test_unknown_command() -> None:
    done = multishift('fly')
    assert done.returncode == 2
    assert "No such command 'fly'" in done.stderr


def test_training_command_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'safetensors'", name='safetensors')

    monkeypatch.setattr('importlib.metadata.EntryPoint.load', missing)
    with pytest.raises(
        MultishiftError, match=r"needs safetensors.*`pip install '\.\[train\]'` in the checkout"
    ):
        cli.multishift.get_command(None, 'train')


def test_training_command_without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, 'entry_points', lambda **_: ())
    with pytest.raises(MultishiftError, match=r'multishift_training, which is not installed'):
        cli.multishift.get_command(None, 'train')


@pytest.mark.slow
def test_verify_and_inspect_a_bundle(tiny_bundle: Path) -> None:
    done = multishift('engine', 'verify', tiny_bundle)
    assert done.returncode == 0, done.stderr
    of_openvino, of_torch = done.stdout.splitlines()
    assert of_openvino.startswith('openvino.xml (openvino fp32) on cpu: right: ')
    assert of_torch.startswith('torch.pt2 (torch fp32) on cpu: right: 100.000% of labels agree')
    shown = CliRunner().invoke(cli.multishift, ['engine', 'inspect', str(tiny_bundle)]).output
    assert '1 x 64 x 96 RGB bytes' in shown
    assert 'road, sky, car' in shown

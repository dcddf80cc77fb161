# SPDX-License-Identifier: Apache-2.0
"""What commands write beside their results: their own words, and none of the libraries'."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest
import yaml

# Progress where no terminal is: `what: 1/2, ...`; and the lines of the run's log.
OWN = (
    'calibrate',
    'closed_world',
    'compare',
    'epoch',
    'quantise',
    'render',
    'validate',
    'read',
)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', 'multishift_perception.cli.main', *map(str, arguments)],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope='module')
def trained(
    content: Callable[..., dict[str, Any]],
    stages: dict[str, dict[str, Any]],
    new_folder: Callable[[], Path],
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = new_folder()
    config = folder.parent / f'{folder.name}.yaml'
    config.write_text(yaml.safe_dump(content(stages=[{**stages['closed_world'], 'epochs': 1}])))
    return folder, run('train', config, '--out', folder)


def foreign(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = done.stderr.replace('\r', '\n').splitlines()
    return [line for line in lines if line.strip() and not line.startswith(OWN)]


@pytest.mark.slow
def test_training(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = trained
    assert 'epoch 0 (closed_world)' in done.stderr
    assert foreign(done) == []


@pytest.mark.slow
def test_build(trained: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    best = trained[0] / 'best.safetensors'
    out = tmp_path / 'engine'
    done = run(
        'engine', 'build', best, '--out', out, '--precision', 'int8', '--onnx', tmp_path / 'n.onnx'
    )
    assert f'bundle: {out}' in done.stdout
    assert foreign(done) == []
    quiet = run('--quiet', 'engine', 'verify', out)
    assert quiet.stderr == ''

# SPDX-License-Identifier: Apache-2.0
"""The notebook of docs/tutorial.ipynb: its cells are whole, and do what they say.

It takes minutes, so that it runs only when asked for:

    MULTISHIFT_TUTORIAL=1 pytest test/test_tutorial.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
import shlex
import subprocess
import sys
from typing import Any

import click
import pytest

from multishift_perception.cli.main import multishift

NOTEBOOK = Path(__file__).parents[1] / 'docs/tutorial.ipynb'
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
CODE = [''.join(cell['source']) for cell in CELLS if cell['cell_type'] == 'code']
COMMANDS = [line[1:] for text in CODE for line in text.splitlines() if line.startswith('!')]


def test_no_output_is_kept() -> None:
    assert all(not cell.get('outputs') for cell in CELLS)


@pytest.mark.parametrize('line', COMMANDS)
def test_commands_are_those_there_are(line: str) -> None:
    name, *words = shlex.split(line)
    assert name == 'multishift'
    context = click.Context(multishift, info_name=name, **multishift.context_settings)
    command: click.Command | None = multishift
    while isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
    assert command is not None
    with command.make_context(name, words, context):  # a fault of its options is raised
        pass


def as_script(cells: list[str]) -> str:
    """Return cells as a program, in which a command that fails ends it."""
    run = 'import subprocess; subprocess.run({!r}, shell=True, check=True)'
    lines = [
        run.format(line[1:]) if line.startswith('!') else line
        for text in cells
        for line in text.splitlines()
    ]
    return '\n'.join(lines)


def test_a_notebook_is_a_program() -> None:
    compile(as_script(CODE), str(NOTEBOOK), 'exec')


@pytest.mark.skipif('MULTISHIFT_TUTORIAL' not in os.environ, reason='takes minutes')
def test_it_runs_from_photos_to_a_report(tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    path = os.pathsep.join([str(programs), os.environ['PATH']])
    subprocess.run(
        [sys.executable, '-c', as_script(CODE)],
        cwd=tmp_path,
        env=os.environ | {'PATH': path},
        check=True,
    )
    figures = json.loads((tmp_path / 'report/metrics.json').read_text())
    assert figures['classes'] == ['ground', 'plant', 'sky', 'thing']
    assert (tmp_path / 'camera_engine/manifest.yaml').is_file()
    assert len(list((tmp_path / 'seen_by_mine/overlay').iterdir())) == 12

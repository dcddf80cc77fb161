# SPDX-License-Identifier: Apache-2.0
"""The guide for vehicles quotes what the code says, and all that the node says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / 'docs/vehicle.md').read_text()
NODE = ROOT / 'multishift_perception/node'
SOURCES = [*(ROOT / 'multishift_perception').rglob('*.py'), *(ROOT / 'launch').glob('*.py')]
VARYING = '…'
_CONVERSION = re.compile(r'%(?:\.\d+)?[sdf]')
_SAYING = {'critical', 'error', 'exception', 'warning', 'MultishiftError'}


def message(node: ast.expr) -> str:
    """Return a string of the code with … for what varies; empty for what is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _CONVERSION.sub(VARYING, node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(
            message(part) if isinstance(part, ast.Constant) else VARYING for part in node.values
        )
    return ''


@lru_cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@lru_cache
def all_messages() -> frozenset[str]:
    """Return every string of the package and the launch files."""
    nodes = (node for file in SOURCES for node in ast.walk(tree(file)))
    return frozenset(message(node) for node in nodes if isinstance(node, ast.expr))


def complaints(file: Path) -> Iterator[str]:
    """Yield what a module logs from warnings on, raises for users, or finds on /diagnostics."""
    for node in ast.walk(tree(file)):
        said: ast.expr | None = None
        if isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            if name in _SAYING or (isinstance(name, ast.Name) and name.id in _SAYING):
                said = node.args[0]
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
            level = node.elts[0]
            if isinstance(level, ast.Name) and level.id in ('WARN', 'ERROR'):
                said = node.elts[1]
        text = message(said) if said is not None else ''
        if text.strip(f'{VARYING}: '):
            yield text


def quotes() -> list[str]:
    """Return what the tables of the guide quote in their first column."""
    tables = GUIDE[GUIDE.index('## What it says') :]
    return re.findall(r'^\| `([^`]+)` \|', tables, re.MULTILINE)


def test_every_message_of_the_guide_is_one_of_the_code() -> None:
    found = quotes()
    assert len(found) > 50
    assert [q for q in found if not any(q in text for text in all_messages())] == []


@pytest.mark.parametrize('file', sorted(NODE.glob('*.py')), ids=lambda file: file.name)
def test_whatever_the_node_complains_of_is_in_the_guide(file: Path) -> None:
    assert [text for text in complaints(file) if not any(q in text for q in quotes())] == []


def test_a_message_that_is_gone_is_noticed() -> None:
    assert not any('a frame of … was eaten' in text for text in all_messages())
    assert 'a frame of … cannot be taken' in all_messages()


def test_the_programs_of_the_guide_are_python() -> None:
    launch, composed = map(ast.parse, re.findall(r'```python\n(.*?)```', GUIDE, re.DOTALL))
    assert {node.name for node in launch.body if isinstance(node, ast.FunctionDef)} == {
        'generate_launch_description'
    }
    imports = [node for node in composed.body if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.startswith('multishift_perception')]
    assert len(ours) == 2
    for node in ours:
        source = tree(ROOT / f'{node.module.replace(".", "/")}.py')
        assert {name.name for name in node.names} <= {getattr(n, 'name', '') for n in source.body}


def test_every_launch_argument_is_in_the_guide() -> None:
    launch = tree(ROOT / 'launch/perception.launch.py')
    calls = [n for n in ast.walk(launch) if isinstance(n, ast.Call)]
    declared = {
        message(call.args[0])
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == 'DeclareLaunchArgument'
    }
    table = GUIDE[GUIDE.index('| argument | sets |') :].partition('\n\n')[0]
    named = set(re.findall(r'^\| (.*?) \|', table, re.MULTILINE)[1:])
    assert {name for cell in named for name in re.findall(r'`(\w+)`', cell)} == declared

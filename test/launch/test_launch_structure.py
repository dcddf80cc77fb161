# SPDX-License-Identifier: Apache-2.0
"""The launch files and what is written of them agree; read, not run: needs no launch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
import re
import sys
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NAME = 'multishift_perception'
FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
PAGES = sorted([ROOT / 'README.md', *(ROOT / 'docs').glob('*.md'), *ROOT.glob('config/*/*.env')])
# What `ros2 launch` is given on a page: the file, and its arguments up to the line's end.
COMMAND = re.compile(
    rf'ros2 launch {NAME} (\w+\.launch\.py)((?:[ \t]+(?:\\\n[ \t]*)?[\w/]+:=\S*)*)'
)


def calls(file: Path, function: str) -> Iterator[ast.Call]:
    """Yield the calls of a function by its name, of methods too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            if name == function or (isinstance(name, ast.Name) and name.id == function):
                yield node


def declared(file: Path) -> dict[str, dict[str, ast.expr]]:
    """Return the keywords of each argument that a launch file declares itself, by its name."""
    found = {}
    for call in calls(file, 'DeclareLaunchArgument'):
        assert isinstance(call.args[0], ast.Constant)
        found[str(call.args[0].value)] = {k.arg or '': k.value for k in call.keywords}
    return found


def included(file: Path) -> list[Path]:
    """Return the launch files that a launch file includes."""
    names = re.findall(r"'(\w+\.launch\.py)'", file.read_text())
    return [ROOT / 'launch' / name for name in names]


def accepted(file: Path) -> set[str]:
    """Return the names of all arguments that a launch file takes."""
    return {name for source in (file, *included(file)) for name in declared(source)}


def strings(nodes: list[Any]) -> list[str]:
    return [str(node.value) for node in nodes if isinstance(node, ast.Constant)]


def test_launch_files_are_found() -> None:
    assert [file.name for file in FILES] == ['perception.launch.py', 'replay.launch.py']


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_every_argument_is_declared_with_a_description(file: Path) -> None:
    arguments = declared(file)
    assert arguments
    assert [n for n, keywords in arguments.items() if 'description' not in keywords] == []
    for keywords in arguments.values():
        default, choices = keywords.get('default_value'), keywords.get('choices')
        if isinstance(choices, ast.List) and isinstance(default, ast.Constant):
            assert default.value in strings(choices.elts)


def test_backends_of_other_packages_reach_the_node() -> None:
    backend = declared(ROOT / 'launch/perception.launch.py')['backend']
    assert 'choices' not in backend


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_every_argument_that_is_asked_for_is_declared_and_the_other_way_round(file: Path) -> None:
    asked = set(strings([call.args[0] for call in calls(file, 'LaunchConfiguration')]))
    for function in ('argument', 'words'):
        asked |= set(strings([call.args[1] for call in calls(file, function)]))
    # Names that a comprehension or a loop goes through.
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.For, ast.comprehension)) and isinstance(node.iter, ast.Tuple):
            asked |= set(strings(node.iter.elts))
    assert asked <= accepted(file)
    assert set(declared(file)) <= asked


def test_what_is_started_is_installed() -> None:
    text = '\n'.join(file.read_text() for file in FILES)
    started = set(re.findall(r"package=NAME,\s+executable='(\w+)'", text))
    assert started
    known = {point.name for point in entry_points(group='console_scripts')}
    assert started <= known


def test_what_is_imported_is_launch() -> None:
    for file in FILES:
        tree = ast.parse(file.read_text())
        modules = [n.module or '' for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        modules += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        known = {'launch', 'launch_ros', *sys.stdlib_module_names}
        assert {module.partition('.')[0] for module in modules} <= known


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_pages_give_launch_files_arguments_that_they_take(page: Path) -> None:
    for file, arguments in COMMAND.findall(page.read_text()):
        names = set(re.findall(r'(?:^|\s)(\w+):=', arguments))
        assert names <= accepted(ROOT / 'launch' / file)


def test_an_argument_on_a_page_is_seen() -> None:
    text = f'ros2 launch {NAME} replay.launch.py bag:=a \\\n    rate:=0.5\nelse:=1'
    [(file, arguments)] = COMMAND.findall(text)
    assert (file, re.findall(r'(\w+):=', arguments)) == ('replay.launch.py', ['bag', 'rate'])

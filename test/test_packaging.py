# SPDX-License-Identifier: Apache-2.0
"""The packages as users get them: by pip and by colcon."""

from __future__ import annotations

from email import message_from_string
from importlib.metadata import EntryPoint, entry_points, metadata, version
import os
from pathlib import Path
import re
import shutil
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import multishift_perception

ROOT = Path(__file__).parents[1]
NAME = 'multishift_perception'
DISTROS = 'jazzy', 'kilted'
# What git would not track: building must work without it, and copies are quick.
LOCAL = shutil.ignore_patterns('.*', 'build', 'install', 'log', 'runs', '*.egg-info', '*.mcap')


@pytest.fixture(scope='module')
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that no build leaves anything in the checkout."""
    copy = tmp_path_factory.mktemp('sources') / NAME
    shutil.copytree(ROOT, copy, ignore=LOCAL)
    return copy


@pytest.fixture(scope='module')
def wheel_prefix(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix into which pip has installed the package alone."""
    prefix = tmp_path_factory.mktemp('prefix')
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    options = ['--no-deps', '--no-build-isolation', '--ignore-installed', '--prefix', str(prefix)]
    subprocess.run([*pip, *options, str(sources)], check=True)
    return prefix


def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def test_one_version_everywhere() -> None:
    assert manifest().findtext('version') == multishift_perception.__version__
    assert version(NAME) == multishift_perception.__version__


def test_package_xml_is_an_ament_python_package() -> None:
    package = manifest()
    assert package.get('format') == '3'
    assert package.findtext('name') == NAME
    assert package.findtext('export/build_type') == 'ament_python'
    assert (ROOT / 'resource' / NAME).exists()


def test_every_ros_import_is_a_dependency() -> None:
    declared = {e.text for e in manifest() if e.tag.endswith('depend')}
    known = ('rclpy', 'launch', 'launch_ros', 'cv_bridge', 'builtin_interfaces', 'rcl_interfaces')
    found = set()
    for folder in ('multishift_perception', 'launch'):
        for file in (ROOT / folder).rglob('*.py'):
            for line in file.read_text().splitlines():
                words = line.split()
                if words[:1] in (['import'], ['from']):
                    found.add(words[1].split('.')[0])
    ros = {name for name in found if name in known or name.endswith('_msgs')}
    assert {'rclpy', 'sensor_msgs', 'launch_ros'} <= ros
    assert ros <= declared


# Ubuntu's names of what PyPI calls otherwise.
OF_UBUNTU = {'opencv-python-headless': 'opencv', 'pillow': 'pil', 'pyyaml': 'yaml'}


@pytest.mark.parametrize('page', ['README.md', 'docs/vehicle.md'])
def test_rosdep_and_pip_bring_what_the_package_needs(page: str) -> None:
    declared = {e.text for e in manifest() if e.tag.endswith('depend')}
    needs = [n for n in metadata(NAME).get_all('Requires-Dist') if 'extra ==' not in n]
    names = {re.match(r'[\w-]+', need)[0] for need in needs}
    by_pip = {n for n in names if f'python3-{OF_UBUNTU.get(n, n)}' not in declared}
    commands = re.findall(r'^pip install (.*openvino.*)$', (ROOT / page).read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        assert by_pip <= set(re.findall(r'(?<![\w-])[a-z]\w+', command.partition('#')[0]))


@pytest.mark.slow
def test_wheel_holds_both_packages_and_their_data(wheel_prefix: Path) -> None:
    [site] = wheel_prefix.glob('lib/python*/site-packages')
    for package, folder in ((NAME, NAME), ('multishift_training', 'training/multishift_training')):
        expected = {
            p.relative_to(ROOT / folder)
            for p in (ROOT / folder).rglob('*')
            if p.is_file() and '__pycache__' not in p.parts
        }
        installed = {
            p.relative_to(site / package) for p in (site / package).rglob('*') if p.is_file()
        }
        assert expected - installed == set()


@pytest.mark.slow
def test_wheel_shares_what_ros_looks_for(wheel_prefix: Path) -> None:
    share = wheel_prefix / 'share'
    assert (share / 'ament_index/resource_index/packages' / NAME).exists()
    assert (share / NAME / 'package.xml').exists()
    for folder in ('launch', 'config'):
        for file in (ROOT / folder).rglob('*'):
            if file.is_file() and '__pycache__' not in file.parts:
                assert (share / NAME / file.relative_to(ROOT)).exists()


@pytest.mark.slow
def test_installed_command_runs(wheel_prefix: Path, tmp_path: Path) -> None:
    [site] = wheel_prefix.glob('lib/python*/site-packages')
    environment = {**os.environ, 'PYTHONPATH': str(site)}
    command = [str(wheel_prefix / 'bin/multishift'), '--version']
    said = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert multishift_perception.__version__ in said.stdout


@pytest.mark.parametrize(
    ('group', 'name'),
    [
        ('console_scripts', 'multishift'),
        ('console_scripts', 'perception_node'),
        ('multishift.commands', 'augment'),
        ('multishift.commands', 'compare'),
        ('multishift.commands', 'train'),
        ('multishift.commands', 'evaluate'),
        ('multishift.commands', 'import-checkpoint'),
        ('multishift.commands', 'models'),
        ('multishift.commands', 'datasets'),
        ('multishift.engine_commands', 'build'),
    ],
)
def test_entry_points_lead_somewhere(group: str, name: str) -> None:
    found = [e for e in entry_points(group=group, name=name) if e.value.startswith('multishift')]
    points: set[EntryPoint] = set(found)
    assert len(points) == 1
    assert callable(points.pop().load())


@pytest.mark.slow
def test_colcon_puts_the_node_where_ros2_run_looks(sources: Path, tmp_path: Path) -> None:
    colcon = shutil.which('colcon', path=str(Path(sys.executable).parent))
    if colcon is None:
        pytest.skip('colcon is not installed')
    subprocess.run(
        [colcon, '--log-base', 'log', 'build', '--base-paths', str(sources)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=120,
    )
    installed = tmp_path / 'install' / NAME
    node = installed / 'lib' / NAME / 'perception_node'
    assert node.stat().st_mode & stat.S_IXUSR
    assert (installed / 'share/ament_index/resource_index/packages' / NAME).exists()
    assert (installed / 'share' / NAME / 'launch/perception.launch.py').exists()
    for viewer in ('multishift.rviz', 'foxglove_layout.json'):
        assert (installed / 'share' / NAME / 'config' / viewer).exists()


def pins(file: str) -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


@pytest.mark.parametrize('file', ['requirements.txt', *(f'requirements-{d}.txt' for d in DISTROS)])
def test_every_requirement_is_pinned(file: str) -> None:
    found = pins(file)
    assert found == sorted(found)
    assert all('==' in pin and '://' not in pin for pin in found)


def test_each_distribution_brings_all_of_ros_and_nothing_else() -> None:
    assert 'torch==2.13.0' in pins('requirements.txt')
    assert [pin for pin in pins('requirements.txt') if pin.startswith('ros-')] == []
    asked = {'rclpy', *(f'{kind}-msgs' for kind in ('diagnostic', 'lifecycle', 'sensor', 'std'))}
    for distro in DISTROS:
        names = {pin.partition('==')[0] for pin in pins(f'requirements-{distro}.txt')}
        assert all(name.startswith('ros-') for name in names)
        assert {f'ros-{distro}-{name}' for name in asked} <= names
        assert {'ros-rclpy', 'ros-rmw-fastrtps-cpp'} <= names


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as where some ROS is sourced."""
    environment = {**os.environ, 'ROS_DISTRO': 'of_the_environment'}
    command = ['make', '--no-print-directory', *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_make_installs_the_distribution_that_is_asked_for() -> None:
    default = make('--dry-run', 'demo', 'VENV=none').stdout
    assert '--requirement requirements-jazzy.txt' in default
    kilted = make('--dry-run', 'demo', 'ROS_DISTRO=kilted').stdout
    assert '.venv-kilted/bin/multishift demo' in kilted
    kilted = make('--dry-run', 'demo', 'ROS_DISTRO=kilted', 'VENV=none').stdout
    assert '--requirement requirements-kilted.txt' in kilted
    unknown = make('demo', 'ROS_DISTRO=humble')
    assert unknown.returncode != 0
    assert 'no wheels of ROS 2 humble' in unknown.stderr


def test_make_refuses_an_environment_of_another_python(tmp_path: Path) -> None:
    (tmp_path / 'bin').mkdir()
    for program, said in (('bin/python', 'Python 3.11.7'), ('other', 'Python 3.12.1')):
        (tmp_path / program).write_text(f'#!/bin/sh\necho {said}\n')
        (tmp_path / program).chmod(0o755)
    same = make('python', f'VENV={tmp_path}', f'PYTHON={tmp_path}/bin/python')
    assert same.returncode == 0
    other = make('python', f'VENV={tmp_path}', f'PYTHON={tmp_path}/other')
    assert other.returncode != 0
    assert 'is of another Python than' in other.stderr


@pytest.mark.slow
def test_readme_describes_the_package(wheel_prefix: Path) -> None:
    [file] = wheel_prefix.glob('lib/python*/site-packages/multishift_perception-*/METADATA')
    about = message_from_string(file.read_text())
    assert about['Description-Content-Type'] == 'text/markdown'
    assert about.get_payload().strip() == (ROOT / 'README.md').read_text().strip()


@pytest.mark.slow
def test_torch_comes_with_extras_alone(wheel_prefix: Path) -> None:
    [file] = wheel_prefix.glob('lib/python*/site-packages/multishift_perception-*/METADATA')
    needs = message_from_string(file.read_text()).get_all('Requires-Dist')
    assert [n for n in needs if 'torch' in n and 'extra ==' not in n] == []
    extras = {n.split('extra == ')[1].strip('"\'') for n in needs if n.startswith('torch;')}
    assert extras == {'torch', 'train', 'augment'}


def test_the_container_gets_what_its_steps_read() -> None:
    folder = ROOT / 'docs/container'
    steps = (folder / 'Dockerfile').read_text()
    lines = (folder / 'Dockerfile.dockerignore').read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith('!')}
    assert lines[0] == '*' and all((ROOT / name).exists() for name in kept)
    # What setup.py reads, and what the first step is pinned by.
    wanted = {'setup.py', 'setup.cfg', 'MANIFEST.in', 'README.md', 'package.xml', 'resource'}
    wanted |= {'requirements.txt', 'config', 'launch', NAME, 'training'}
    assert wanted <= kept
    [extras] = re.findall(r'^ARG EXTRAS=(.+)$', steps, re.MULTILINE)
    assert set(extras.split(',')) <= set(metadata(NAME).get_all('Provides-Extra'))
    assert re.findall(r'^USER (.+)$', steps, re.MULTILINE) == ['1000']

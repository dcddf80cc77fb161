# SPDX-License-Identifier: Apache-2.0
"""The launch files, run where ROS's launch is installed."""

from __future__ import annotations

import json
import os
from pathlib import Path
import runpy
import socket
import sys
from typing import Any

import pytest

pytest.importorskip('launch_ros', reason='needs launch_ros, of a ROS 2 installation')
pytest.importorskip('rclpy', reason='needs rclpy, of a ROS 2 installation')

from launch import Action, LaunchContext, LaunchDescription, LaunchService
from launch.actions import (
    ExecuteProcess,
    IncludeLaunchDescription,
    RegisterEventHandler,
    Shutdown,
    TimerAction,
)
from launch.event_handler import EventHandler
from launch.events import Shutdown as ShutdownEvent
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.utilities import perform_substitutions

ROOT = Path(__file__).parents[2]
NAME = 'multishift_perception'
PROFILE_VARIABLES = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'
TOO_LONG_S = 60.0


pytestmark = pytest.mark.ros


@pytest.fixture(autouse=True)
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ros_domain: int) -> None:
    """An ament prefix with the node, a `ros2` that only takes notes, and a graph of our own."""
    index = tmp_path / 'share/ament_index/resource_index/packages'
    programs = tmp_path / 'lib' / NAME
    for folder in (index, programs):
        folder.mkdir(parents=True)
    (index / NAME).touch()
    main = f'import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom {NAME}.node.main import main\n'
    write_program(programs / 'perception_node', f'{main}sys.exit(main())\n')
    notes = f'open({str(tmp_path / "played")!r}, "w").write(json.dumps([sys.argv[1:], profile]))\n'
    profile = 'profile = os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"]\n'
    write_program(tmp_path / 'ros2', f'import json, os, sys\n{profile}{notes}')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'log'))
    monkeypatch.setenv('ROS_DOMAIN_ID', str(ros_domain))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def write_program(path: Path, text: str) -> None:
    path.write_text(f'#!{sys.executable}\n{text}')
    path.chmod(0o755)


def included(file: str, **arguments: str) -> IncludeLaunchDescription:
    source = PythonLaunchDescriptionSource(str(ROOT / 'launch' / file))
    return IncludeLaunchDescription(source, launch_arguments=arguments.items())


def run(*actions: Action) -> list[str]:
    """Run to the end and return the reasons to stop, the first first."""
    reasons: list[str] = []

    def note_reason(event: object) -> bool:
        if isinstance(event, ShutdownEvent):
            reasons.append(event.reason)
        return False

    guard = TimerAction(period=TOO_LONG_S, actions=[Shutdown(reason='too long')])
    notes = RegisterEventHandler(EventHandler(matcher=note_reason, entities=[]))
    service = LaunchService(noninteractive=True)
    service.include_launch_description(LaunchDescription([notes, guard, *actions]))
    assert service.run() == 0
    return reasons


@pytest.mark.parametrize('file', ['perception.launch.py', 'replay.launch.py'])
def test_every_argument_is_described(file: str) -> None:
    source = PythonLaunchDescriptionSource(str(ROOT / 'launch' / file))
    arguments = LaunchDescription([IncludeLaunchDescription(source)]).get_launch_arguments()
    assert {'engine_bundle', 'camera_names', 'namespace', 'dds_profile', 'rviz'} <= {
        argument.name for argument in arguments
    }
    assert not [a.name for a in arguments if a.description == 'no description given']


def started(**arguments: str) -> tuple[dict[str, Any], LaunchContext]:
    """Return what perception.launch.py defines, and the context that its arguments make."""
    file = runpy.run_path(str(ROOT / 'launch/perception.launch.py'))
    context = LaunchContext()
    context.launch_configurations.update(
        {
            argument.name: perform_substitutions(context, argument.default_value)
            for argument in file['ARGUMENTS']
        }
        | arguments
    )
    return file, context


def given(**arguments: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the parameters and remaps that the arguments of perception.launch.py make."""
    file, context = started(**arguments)
    return file['parameters'](context), file['remaps'](context)


@pytest.mark.parametrize('variable', PROFILE_VARIABLES)
def test_the_environment_s_dds_profile_is_kept(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / 'own.xml'
    own.touch()
    monkeypatch.setenv(variable, str(own))
    file, context = started()
    assert file['dds_environment'](context) == dict.fromkeys(PROFILE_VARIABLES, str(own))
    _, context = started(dds_profile='')
    assert file['dds_environment'](context) == dict.fromkeys(PROFILE_VARIABLES, '')


def test_without_arguments_the_parameter_file_decides() -> None:
    assert given() == ({}, [])


def test_arguments_describe_several_cameras() -> None:
    parameters, remaps = given(
        device='1',
        camera_names='front, left',
        image_topics='/sensing/front/image, /sensing/left/image',
        transport='compressed',
        autostart='false',
        use_sim_time='true',
        remaps='/diagnostics:=/fleet/diagnostics, /a:=/b',
    )
    assert parameters == {
        'device': 1,
        'camera_names': ['front', 'left'],
        'cameras.front.image_topic': '/sensing/front/image',
        'cameras.left.image_topic': '/sensing/left/image',
        'cameras.front.transport': 'compressed',
        'cameras.left.transport': 'compressed',
        'autostart': False,
        'use_sim_time': True,
    }
    assert remaps == [('/diagnostics', '/fleet/diagnostics'), ('/a', '/b')]


@pytest.mark.parametrize(
    ('arguments', 'fault'),
    [
        ({'camera_names': 'front,left', 'image_topics': '/a'}, '1 topics and camera_names 2'),
        ({'image_topics': '/a'}, '1 topics and camera_names 0'),
        ({'transport': 'compressed'}, 'transport is that of camera_names'),
        ({'remaps': '/a=/b'}, "'/a=/b' is none: write FROM:=TO"),
        ({'params_file': '/nope.yaml'}, "params_file: '/nope.yaml' is no file"),
        ({'params_file': ''}, "params_file: '' is no file"),
        ({'dds_profile': '/nope.xml'}, "dds_profile: '/nope.xml' is no file"),
        ({'respawn_delay': '2s'}, "respawn_delay: '2s' is no number of seconds"),
        ({'respawn_delay': 'nan'}, "respawn_delay: 'nan' is no number of seconds"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, str], fault: str) -> None:
    file, context = started(**arguments)
    with pytest.raises(ValueError, match=fault):
        file['perception_node'](context)


def test_an_argument_that_is_nearly_ours_is_told() -> None:
    file, context = started(bakend='openvino', bag='drive')
    [warning, _] = file['perception_node'](context)
    assert perform_substitutions(context, warning.msg) == (
        'bakend is no argument of the perception node: did you mean backend?'
    )


def test_a_node_that_ends_is_started_anew(tmp_path: Path) -> None:
    starts = tmp_path / 'starts'
    program = (
        f'import sys\nwith open({str(starts)!r}, "a") as file:\n    print(sys.argv, file=file)\n'
    )
    write_program(tmp_path / 'lib' / NAME / 'perception_node', program)
    include = included('perception.launch.py', respawn='true', respawn_delay='0.05')
    script = (
        'import pathlib, sys, time\n'
        'while len(pathlib.Path(sys.argv[1]).read_text().splitlines()) < 2:\n'
        '    time.sleep(0.02)\n'
    )
    starts.touch()
    waiting = ExecuteProcess(
        cmd=[sys.executable, '-c', script, str(starts)],
        on_exit=lambda event, _: Shutdown(reason=f'exit code {event.returncode}'),
    )
    assert run(include, waiting) == ['exit code 0']


def test_perception_becomes_active(tiny_bundle: Path) -> None:
    include = included(
        'perception.launch.py',
        engine_bundle=str(tiny_bundle),
        device='0',
        camera_names='front, left',
        image_topics='/sensing/front/image, /sensing/left/image',
        remaps='/diagnostics:=/fleet/diagnostics',
        node_name='eyes',
        namespace='car',
    )
    words = [sys.executable, '-m', f'{NAME}.node.await_active', '/car/eyes']
    waiting = ExecuteProcess(
        cmd=words, on_exit=lambda event, _: Shutdown(reason=f'exit code {event.returncode}')
    )
    assert run(include, waiting) == ['exit code 0']


def test_a_page_shows_the_node(tiny_bundle: Path) -> None:
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
    include = included(
        'perception.launch.py',
        engine_bundle=str(tiny_bundle),
        camera_names='front',
        namespace='car',
        view='true',
        view_port=str(port),
    )
    script = (
        'import sys, time, urllib.request\n'
        'answer = b""\n'
        'while b\'camera="front"\' not in answer:\n'
        '    time.sleep(0.1)\n'
        '    try:\n'
        '        answer = urllib.request.urlopen(sys.argv[1]).read()\n'
        '    except OSError:\n'
        '        pass\n'
    )
    asking = ExecuteProcess(
        cmd=[sys.executable, '-c', script, f'http://localhost:{port}/metrics'],
        on_exit=lambda event, _: Shutdown(reason=f'exit code {event.returncode}'),
    )
    assert run(include, asking) == ['exit code 0']


def test_launch_ends_with_the_node() -> None:
    include = included('perception.launch.py', camera_names='no-name')
    assert run(include) == ['the perception node has exited']


def test_replay_plays_the_bag_once_the_node_is_active(tiny_bundle: Path, tmp_path: Path) -> None:
    include = included(
        'replay.launch.py', bag='drive.mcap', rate='0.5', engine_bundle=str(tiny_bundle)
    )
    assert run(include) == ['the bag has ended']
    words, profile = json.loads((tmp_path / 'played').read_text())
    assert words[:3] == ['bag', 'play', 'drive.mcap']
    assert words[words.index('--rate') + 1] == '0.5'
    assert profile == str(ROOT / 'config/fastdds_shm.xml')


def test_replay_ends_when_the_engine_cannot_be_loaded(tmp_path: Path) -> None:
    include = included(
        'replay.launch.py', bag='drive.mcap', engine_bundle=str(tmp_path / 'missing')
    )
    assert run(include) == ['the perception node is not active']
    assert not (tmp_path / 'played').exists()

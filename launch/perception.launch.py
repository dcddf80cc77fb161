# SPDX-License-Identifier: Apache-2.0
"""Start the perception node, and rviz2 or a page for browsers on request."""

from __future__ import annotations

from difflib import get_close_matches
import math
from pathlib import Path
import sys

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

NAME = 'multishift_perception'
CONFIG = Path(__file__).parent.parent / 'config'
# Read by Kilted and later, and by ROS 2 up to Jazzy.
PROFILE_VARIABLES = 'FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'

ARGUMENTS = (
    DeclareLaunchArgument(
        'params_file',
        default_value=str(CONFIG / 'perception.yaml'),
        description='Parameter file; the arguments below win over it.',
    ),
    DeclareLaunchArgument(
        'engine_bundle',
        default_value='',
        description="Path of an engine bundle; empty: the parameter file's.",
    ),
    DeclareLaunchArgument(
        'backend',
        default_value='',
        # No choices: the node knows the backends, those of other packages among them.
        description='What runs the engine: auto, tensorrt, openvino, torch or one of another '
        "package; empty: the parameter file's.",
    ),
    DeclareLaunchArgument(
        'device',
        default_value='',
        description="Index of the GPU, where the backend uses one; empty: the parameter file's.",
    ),
    DeclareLaunchArgument(
        'camera_names',
        default_value='',
        description="Cameras, with commas: front,left; empty: the parameter file's.",
    ),
    DeclareLaunchArgument(
        'image_topics',
        default_value='',
        description='Image topics of camera_names, in their order, with commas; empty: the '
        "parameter file's, or /<name>/image_raw.",
    ),
    DeclareLaunchArgument(
        'transport',
        default_value='',
        choices=['', 'raw', 'compressed'],
        description="Form in which all camera_names send; empty: the parameter file's, or raw.",
    ),
    DeclareLaunchArgument(
        'remaps',
        default_value='',
        description='Further remaps of the node, with commas: /diagnostics:=/fleet/diagnostics.',
    ),
    DeclareLaunchArgument(
        'autostart',
        default_value='',
        choices=['', 'true', 'false'],
        description='Configure and activate the node; false leaves it to `ros2 lifecycle set` or '
        "a lifecycle manager; empty: the parameter file's, or true.",
    ),
    DeclareLaunchArgument(
        'node_name',
        default_value=NAME,
        description='Name of the node; its outputs are under /<namespace>/<node_name>/.',
    ),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the node; empty: the root.'
    ),
    DeclareLaunchArgument(
        'use_sim_time',
        default_value='',
        choices=['', 'true', 'false'],
        description='Follow /clock, as a simulator or `ros2 bag play --clock` publishes it; '
        "empty: the parameter file's, or false.",
    ),
    DeclareLaunchArgument(
        'respawn',
        default_value='false',
        choices=['true', 'false'],
        description='Start the node anew when its process ends; false ends the launch with it.',
    ),
    DeclareLaunchArgument(
        'respawn_delay', default_value='2.0', description='Seconds before it starts anew.'
    ),
    DeclareLaunchArgument(
        'enclave',
        default_value='',
        description='Security enclave of the node, as /multishift_perception; empty: the '
        "environment's.",
    ),
    DeclareLaunchArgument(
        'dds_profile',
        default_value=EnvironmentVariable(
            PROFILE_VARIABLES[0],
            default_value=EnvironmentVariable(
                PROFILE_VARIABLES[1], default_value=str(CONFIG / 'fastdds_shm.xml')
            ),
        ),
        description="Fast DDS profile for large images; empty: Fast DDS's defaults.",
    ),
    DeclareLaunchArgument(
        'log_level',
        default_value='info',
        choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Least severe messages to log.',
    ),
    DeclareLaunchArgument(
        'rviz',
        default_value='false',
        choices=['true', 'false'],
        description='Show overlay, anomaly score and labels in rviz2.',
    ),
    DeclareLaunchArgument(
        'rviz_config',
        default_value=str(CONFIG / 'multishift.rviz'),
        description='rviz2 configuration; the shipped one shows cameras front and left.',
    ),
    DeclareLaunchArgument(
        'view',
        default_value='false',
        choices=['true', 'false'],
        description='Serve a page with pictures, threshold and health: `multishift view --ros`.',
    ),
    DeclareLaunchArgument(
        'view_host',
        default_value='127.0.0.1',
        description="Address of the page; others than this machine's own demand a token.",
    ),
    DeclareLaunchArgument('view_port', default_value='8686', description='Port of the page.'),
)


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, the node, rviz2 and the page."""
    node = OpaqueFunction(function=perception_node)
    rviz = OpaqueFunction(function=viewer, condition=IfCondition(LaunchConfiguration('rviz')))
    view = OpaqueFunction(function=page, condition=IfCondition(LaunchConfiguration('view')))
    return LaunchDescription([*ARGUMENTS, node, rviz, view])


def perception_node(context: LaunchContext) -> list[Action]:
    """Return the node with the parameters that the arguments ask for, and warnings before it.

    The node walks itself to active, so that it behaves alike under launch, `ros2 run` and a
    supervisor. Where its engine cannot be loaded it says why, in the log and on /diagnostics, and
    stays unconfigured to be tried again; when its process ends, it is started anew or the launch
    ends.
    """
    respawn = argument(context, 'respawn') == 'true'
    enclave = argument(context, 'enclave')
    params = existing('params_file', argument(context, 'params_file'), 'a parameter file')
    node = LifecycleNode(
        package=NAME,
        executable='perception_node',
        name=argument(context, 'node_name'),
        namespace=argument(context, 'namespace'),
        parameters=[params, parameters(context)],
        remappings=remaps(context),
        ros_arguments=['--log-level', argument(context, 'log_level')]
        + (['--enclave', enclave] if enclave else []),
        additional_env=dds_environment(context),
        output='screen',
        respawn=respawn,
        respawn_delay=seconds('respawn_delay', argument(context, 'respawn_delay')),
        on_exit=None if respawn else lambda _, context: end(context),
    )
    return [*warnings(context), node]


def argument(context: LaunchContext, name: str) -> str:
    """Return the value of an argument."""
    return LaunchConfiguration(name).perform(context)


def existing(name: str, path: str, what: str) -> str:
    """Return the file that an argument gives.

    Raises:
        ValueError: there is none; launch, or Fast DDS, would go on with defaults.
    """
    if not Path(path).is_file():
        raise ValueError(f'{name}: {path!r} is no file: give {what}')
    return path


def seconds(name: str, text: str) -> float:
    """Return the time that an argument gives.

    Raises:
        ValueError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f'{name}: {text!r} is no number of seconds')
    return value


def warnings(context: LaunchContext) -> list[LogInfo]:
    """Return what to say of arguments that are nearly ours: launch passes over unknown ones."""
    ours = [known.name for known in ARGUMENTS]
    near = {
        name: get_close_matches(name, ours, n=1, cutoff=0.8)
        for name in context.launch_configurations
        if name not in ours
    }
    return [
        LogInfo(msg=f'{name} is no argument of the perception node: did you mean {found[0]}?')
        for name, found in near.items()
        if found
    ]


def words(context: LaunchContext, name: str) -> list[str]:
    """Return the values of an argument that takes several, with commas."""
    return [word.strip() for word in argument(context, name).split(',') if word.strip()]


def parameters(context: LaunchContext) -> dict[str, object]:
    """Return the parameters that the arguments give; an empty argument gives none.

    Raises:
        ValueError: image_topics or transport do not go with camera_names.
    """
    given: dict[str, object] = {
        name: argument(context, name)
        for name in ('engine_bundle', 'backend')
        if argument(context, name)
    }
    if device := argument(context, 'device'):
        # What is no number is left to the node, which says so.
        given['device'] = int(device) if device.isdecimal() else device
    for name in ('autostart', 'use_sim_time'):
        if value := argument(context, name):
            given[name] = value == 'true'
    cameras, topics = words(context, 'camera_names'), words(context, 'image_topics')
    transport = argument(context, 'transport')
    if cameras:
        given['camera_names'] = cameras
    if topics and len(topics) != len(cameras):
        raise ValueError(
            f'image_topics names {len(topics)} topics and camera_names {len(cameras)} cameras: '
            'give a topic for each, in the same order'
        )
    if transport and not cameras:
        raise ValueError('transport is that of camera_names: give them, or a parameter file')
    given |= {f'cameras.{c}.image_topic': t for c, t in zip(cameras, topics, strict=False)}
    given |= {f'cameras.{camera}.transport': transport for camera in cameras if transport}
    return given


def remaps(context: LaunchContext) -> list[tuple[str, str]]:
    """Return the remaps that the argument gives.

    Raises:
        ValueError: one has another form than FROM:=TO.
    """
    pairs = []
    for word in words(context, 'remaps'):
        former, sign, new = word.partition(':=')
        if not (former and sign and new):
            raise ValueError(f'remaps: {word!r} is none: write FROM:=TO')
        pairs.append((former, new))
    return pairs


def viewer(context: LaunchContext) -> list[Node]:
    """Return rviz2."""
    use_sim_time = argument(context, 'use_sim_time') == 'true'
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            arguments=['-d', argument(context, 'rviz_config')],
            parameters=[{'use_sim_time': use_sim_time}],
        )
    ]


def page(context: LaunchContext) -> list[ExecuteProcess]:
    """Return what serves the page of the node."""
    namespace = argument(context, 'namespace').strip('/')
    node = '/'.join(['', *filter(None, [namespace]), argument(context, 'node_name')])
    options = ['--node', node]
    options += ['--host', argument(context, 'view_host')]
    options += ['--port', argument(context, 'view_port')]
    if argument(context, 'use_sim_time') == 'true':
        options.append('--use-sim-time')
    return [
        ExecuteProcess(
            cmd=[sys.executable, '-m', f'{NAME}.cli.main', 'view', '--ros', *options],
            additional_env=dds_environment(context),
            output='screen',
        )
    ]


def dds_environment(context: LaunchContext) -> dict[str, str]:
    """Return what names the profile of Fast DDS; its defaults where the argument is empty."""
    profile = argument(context, 'dds_profile')
    if profile:
        existing('dds_profile', profile, 'a profile of Fast DDS, or nothing')
    return dict.fromkeys(PROFILE_VARIABLES, profile)


def end(context: LaunchContext) -> list[Shutdown]:
    """Return what ends the launch, nothing if it is ending already."""
    return [] if context.is_shutdown else [Shutdown(reason='the perception node has exited')]

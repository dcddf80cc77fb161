# SPDX-License-Identifier: Apache-2.0
"""Start the perception node, and rviz2 or a page for browsers on request."""

from __future__ import annotations

from pathlib import Path
import sys

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

NAME = 'multishift_perception'
CONFIG = Path(__file__).parent.parent / 'config'

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
        choices=['', 'auto', 'tensorrt', 'openvino', 'torch'],
        description="What runs the engine; empty: the parameter file's.",
    ),
    DeclareLaunchArgument(
        'camera_names',
        default_value='',
        description="Cameras, with commas: front,left; empty: the parameter file's.",
    ),
    DeclareLaunchArgument(
        'autostart',
        default_value='true',
        choices=['true', 'false'],
        description='Configure and activate the node; false leaves it to `ros2 lifecycle set`.',
    ),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the node; empty: the root.'
    ),
    DeclareLaunchArgument(
        'use_sim_time',
        default_value='false',
        choices=['true', 'false'],
        description='Follow /clock, as a simulator or `ros2 bag play --clock` publishes it.',
    ),
    DeclareLaunchArgument(
        'dds_profile',
        default_value=EnvironmentVariable(
            'FASTRTPS_DEFAULT_PROFILES_FILE', default_value=str(CONFIG / 'fastdds_shm.xml')
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
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', LaunchConfiguration('rviz_config')],
        parameters=[{'use_sim_time': LaunchConfiguration('use_sim_time')}],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    node = OpaqueFunction(function=perception_node)
    view = OpaqueFunction(function=page, condition=IfCondition(LaunchConfiguration('view')))
    return LaunchDescription([*ARGUMENTS, node, rviz, view])


def perception_node(context: LaunchContext) -> list[LifecycleNode]:
    """Return the node with the parameters that the arguments ask for.

    The node walks itself to active, so that it behaves alike under launch, `ros2 run` and a
    supervisor. Where its engine cannot be loaded it says why, in the log and on /diagnostics, and
    stays unconfigured to be tried again; when its process ends, the launch ends.
    """

    def argument(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    parameters: dict[str, object] = {
        name: argument(name) for name in ('engine_bundle', 'backend') if argument(name)
    }
    parameters |= {name: argument(name) == 'true' for name in ('autostart', 'use_sim_time')}
    if argument('camera_names'):
        parameters['camera_names'] = [c.strip() for c in argument('camera_names').split(',')]
    node = LifecycleNode(
        package=NAME,
        executable='perception_node',
        name=NAME,
        namespace=argument('namespace'),
        parameters=[argument('params_file'), parameters],
        ros_arguments=['--log-level', argument('log_level')],
        additional_env=dds_environment(context),
        output='screen',
        on_exit=lambda _, context: end(context),
    )
    return [node]


def page(context: LaunchContext) -> list[ExecuteProcess]:
    """Return what serves the page of the node."""

    def argument(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    node = '/'.join(['', *filter(None, [argument('namespace').strip('/')]), NAME])
    words = ['--node', node, '--host', argument('view_host'), '--port', argument('view_port')]
    if argument('use_sim_time') == 'true':
        words.append('--use-sim-time')
    return [
        ExecuteProcess(
            cmd=[sys.executable, '-m', f'{NAME}.cli.main', 'view', '--ros', *words],
            additional_env=dds_environment(context),
            output='screen',
        )
    ]


def dds_environment(context: LaunchContext) -> dict[str, str]:
    """Return what names the profile of Fast DDS."""
    profile = LaunchConfiguration('dds_profile').perform(context)
    # The first name is read by ROS 2 up to Jazzy, the second by later ones.
    return {
        'FASTRTPS_DEFAULT_PROFILES_FILE': profile,
        'FASTDDS_DEFAULT_PROFILES_FILE': profile,
    }


def end(context: LaunchContext) -> list[Shutdown]:
    """Return what ends the launch, nothing if it is ending already."""
    return [] if context.is_shutdown else [Shutdown(reason='the perception node has exited')]

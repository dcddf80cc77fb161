# SPDX-License-Identifier: Apache-2.0
"""Start the perception node, and rviz2 on request."""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

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
)


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, the node and rviz2."""
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', LaunchConfiguration('rviz_config')],
        parameters=[{'use_sim_time': LaunchConfiguration('use_sim_time')}],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=perception_node), rviz])


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
        package='multishift_perception',
        executable='perception_node',
        name='multishift_perception',
        namespace=argument('namespace'),
        parameters=[argument('params_file'), parameters],
        ros_arguments=['--log-level', argument('log_level')],
        # The first name is read by ROS 2 up to Jazzy, the second by later ones.
        additional_env={
            'FASTRTPS_DEFAULT_PROFILES_FILE': argument('dds_profile'),
            'FASTDDS_DEFAULT_PROFILES_FILE': argument('dds_profile'),
        },
        output='screen',
        on_exit=lambda _, context: end(context),
    )
    return [node]


def end(context: LaunchContext) -> list[Shutdown]:
    """Return what ends the launch, nothing if it is ending already."""
    return [] if context.is_shutdown else [Shutdown(reason='the perception node has exited')]

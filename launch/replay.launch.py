# SPDX-License-Identifier: Apache-2.0
"""Play a bag through the perception node on the bag's own time, with rviz2 on request."""

from __future__ import annotations

from pathlib import Path
import sys

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

HERE = Path(__file__).parent

ARGUMENTS = (
    DeclareLaunchArgument('bag', description='Bag to play: a directory, or an .mcap file.'),
    DeclareLaunchArgument(
        'rate', default_value='1.0', description='Speed; 0.5 plays at half of real time.'
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Return the node, and what plays the bag once the node is active."""
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(HERE / 'perception.launch.py')),
        launch_arguments={'use_sim_time': 'true', 'autostart': 'true'}.items(),
    )
    return LaunchDescription([*ARGUMENTS, perception, OpaqueFunction(function=await_node)])


def await_node(context: LaunchContext) -> list[ExecuteProcess]:
    """Return the process that waits for the node; the bag follows it."""
    namespace = LaunchConfiguration('namespace').perform(context).strip('/')
    name = LaunchConfiguration('node_name').perform(context)
    node = '/'.join(['', *filter(None, [namespace]), name])
    module = 'multishift_perception.node.await_active'
    return [
        ExecuteProcess(
            cmd=[sys.executable, '-m', module, node],
            output='screen',
            on_exit=play_bag,
        )
    ]


def play_bag(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """Return the bag player, or the end where the node is not active."""
    if event.returncode != 0:
        return end(context, 'the perception node is not active')
    player = ExecuteProcess(
        # The clock ticks fast enough for the node's frame ages in milliseconds.
        cmd=['ros2', 'bag', 'play', LaunchConfiguration('bag'), '--clock', '200']
        + ['--rate', LaunchConfiguration('rate'), '--disable-keyboard-controls'],
        # The player sends the large images: it needs the profile most.
        additional_env={
            'FASTRTPS_DEFAULT_PROFILES_FILE': LaunchConfiguration('dds_profile'),
            'FASTDDS_DEFAULT_PROFILES_FILE': LaunchConfiguration('dds_profile'),
        },
        output='screen',
        on_exit=lambda _, context: end(context, 'the bag has ended'),
    )
    return [player]


def end(context: LaunchContext, reason: str) -> list[Action]:
    """Return what ends the launch, nothing if it is ending already."""
    return [] if context.is_shutdown else [Shutdown(reason=reason)]

# SPDX-License-Identifier: Apache-2.0
"""Entry point of ``ros2 run multishift_perception perception_node``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import logging
import os
import sys

from multishift_perception.errors import MultishiftError, install_extra, one_line
from multishift_perception.outputs import NODE_NAME
from multishift_perception.process.memory import keep_large_buffers

_no_ros: ImportError | None = None
try:
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.logging import get_logger
    from rclpy.utilities import remove_ros_args

    from multishift_perception.node.log_bridge import RosHandler
    from multishift_perception.node.node import PerceptionNode
    from multishift_perception.node.parameter_specs import help_text
except ImportError as error:
    # Said by `main`: ROS is not sourced, or is one for another Python.
    if (error.name or '').startswith('multishift'):
        raise
    _no_ros = error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted.

    Args:
        arguments: the command line without the program's name; ``sys.argv`` by default.

    Returns:
        0 after an interrupt, 1 where the node cannot start.
    """
    if _no_ros is not None:
        reason = ' '.join(str(_no_ros).split())
        print(
            f'perception_node: needs ROS 2, which does not load ({reason}): source its setup '
            f'file, or, without an installation, run {install_extra("ros")}',
            file=sys.stderr,
        )
        return 1
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    keep_large_buffers()
    try:
        _parse(remove_ros_args(['perception_node', *arguments])[1:])
        rclpy.init(args=arguments)
    except Exception as error:  # of rcl: unreadable parameter files and malformed arguments
        print(f'{NODE_NAME}: {one_line(error)}', file=sys.stderr)
        return 1
    try:
        return _run()
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()


def _run() -> int:
    bridge = RosHandler(get_logger(NODE_NAME))
    package_logger = logging.getLogger('multishift_perception')
    package_logger.setLevel(logging.INFO)
    package_logger.addHandler(bridge)
    try:
        node = PerceptionNode()
    except MultishiftError as error:
        package_logger.critical('cannot start: %s', error)
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.settings.autostart:
            node.start()
        executor.spin()
    finally:
        if not node.release():
            _leave(package_logger)
        package_logger.removeHandler(bridge)
        executor.shutdown()
        node.destroy_node()
    return 0


def _leave(package_logger: logging.Logger) -> None:
    """End the process at once: a thread in the engine's library would crash its clean-up."""
    package_logger.error('the worker is stuck: the process ends without it')
    rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _parse(arguments: Sequence[str]) -> None:
    """Answer --help; everything else comes as ROS parameters."""
    parser = argparse.ArgumentParser(
        prog='perception_node',
        description='Semantic labels and anomalies of camera images (ROS 2 lifecycle node).',
        usage='%(prog)s [--help] [--ros-args -p NAME:=VALUE ... --params-file FILE]',
        epilog='parameters:\n' + help_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())

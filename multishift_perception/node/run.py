# SPDX-License-Identifier: Apache-2.0
"""Runs the node in this process."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import logging
import os
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.utilities import remove_ros_args

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.node.given_parameters import (
    GivenParameters,
    fault_of_files,
    given_parameters,
)
from multishift_perception.node.log_bridge import log_no_longer, log_to
from multishift_perception.node.node import PerceptionNode
from multishift_perception.node.parameter_specs import help_text
from multishift_perception.node.rclpy_private import Executor, comes_of_shutdown
from multishift_perception.node.shared_memory import name_leftovers
from multishift_perception.outputs import NODE_NAME
from multishift_perception.process.memory import keep_large_buffers

logger = logging.getLogger(__name__)


def run(arguments: Sequence[str], on_ready: Callable[[], None]) -> int:
    """Run the node until rclpy's context is shut down.

    Args:
        arguments: the command line without the program's name.
        on_ready: called once rclpy hears signals itself.

    Returns:
        0 after an interrupt, 1 where the node cannot start.

    Raises:
        Exception: a fault of the node's own.
    """
    keep_large_buffers()
    try:
        _parse(remove_ros_args(['perception_node', *arguments])[1:])
        rclpy.init(args=list(arguments))
        given = given_parameters(arguments)
    except Exception as error:  # parameter files and arguments at fault
        fault = fault_of_files(arguments) or one_line(error)
        print(f'{NODE_NAME}: {fault}', file=sys.stderr)
        return 1
    on_ready()
    log_to(get_logger(NODE_NAME))
    try:
        _spin(given)
    except MultishiftError as error:
        logger.critical('cannot start: %s', error)
        return 1
    except Exception as error:
        if not comes_of_shutdown(error):
            raise
    finally:
        log_no_longer()
        rclpy.try_shutdown()
    return 0


def _spin(given: GivenParameters) -> None:
    node = PerceptionNode(given)
    if leftovers := name_leftovers():
        logger.warning('%s', leftovers)
    try:
        executor = Executor()
    except TypeError:
        if rclpy.ok():
            raise
        raise ExternalShutdownException from None  # which it does not foresee
    executor.add_node(node)
    try:
        if node.settings.autostart:
            executor.create_task(node.start())
        executor.spin()
    finally:
        try:
            is_released = node.release()
        finally:
            executor.shutdown()
            node.destroy_node()
        if not is_released:
            _leave()


def _leave() -> None:
    """End the process at once: a thread in the engine's library would crash its clean-up."""
    logger.warning('the engine is in a call or being loaded: the process ends without it')
    error = sys.exception()
    is_fault = error is not None and not comes_of_shutdown(error)
    if is_fault:
        logger.critical('it ends for a fault of its own', exc_info=error)
    rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(is_fault))


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

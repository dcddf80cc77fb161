# SPDX-License-Identifier: Apache-2.0
"""Records what the node publishes into a bag whose times are those of receipt.

    python -m multishift_perception.demo.recorder OUT.mcap CAMERA [CAMERA ...]

The latency of a message is its bag time less its stamp. An interrupt ends the recording.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import errno
from functools import partial
from pathlib import Path
import sys
import time
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy

from multishift_perception.bags import BagWriter
from multishift_perception.demo.ros_types import message_class
from multishift_perception.disk import FullDiskError
from multishift_perception.errors import MultishiftError
from multishift_perception.message_types import DIAGNOSTIC_ARRAY
from multishift_perception.outputs import DIAGNOSTICS, NODE, Output

# The recorder is there to lose nothing: what the node sends waits here while the disk is slow.
_QOS = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)


def recorded_topics(cameras: Sequence[str]) -> dict[str, str]:
    """Return the topics to record for these cameras, with their types."""
    recorded = [output for output in Output if output.recorded]
    topics = {o.topic_of(camera, NODE): o.kind for camera in cameras for o in recorded}
    return {**topics, DIAGNOSTICS: DIAGNOSTIC_ARRAY}


def record(node: Any, bag: BagWriter, topics: dict[str, str]) -> None:
    """Subscribe to ``topics`` (name to type) and write what comes, as long as ``node`` spins."""

    def write(topic: str, kind: str, cdr: bytes) -> None:
        bag.raw(topic, kind, cdr, time.time_ns())

    for topic, kind in topics.items():
        callback = partial(write, topic, kind)
        node.create_subscription(message_class(kind), topic, callback, _QOS, raw=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Record until interrupted; return the exit code."""
    options = _parser().parse_args(arguments)
    rclpy.init(args=[])
    node = rclpy.create_node('result_recorder')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        with BagWriter(options.out) as bag:
            record(node, bag, recorded_topics(options.cameras))
            try:
                executor.spin()
            except (KeyboardInterrupt, ExternalShutdownException):
                pass  # the way it is meant to end: the bag is completed
    except FullDiskError:
        return errno.ENOSPC  # its words may find no room either
    except MultishiftError as error:
        print(f'recorder: {error}', file=sys.stderr)
        return 1
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='recorder', description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='the .mcap bag to write')
    parser.add_argument('cameras', nargs='+', help='names of the cameras')
    return parser


if __name__ == '__main__':
    sys.exit(main())

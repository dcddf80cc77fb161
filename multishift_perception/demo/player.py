# SPDX-License-Identifier: Apache-2.0
"""Plays topics of a bag in real time, its stamps moved to now: a camera driver for any recording.

    python -m multishift_perception.demo.player BAG TOPIC [TOPIC ...]

It starts when every image topic has a subscriber, says so, and prints what it sent as one line of
JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
import errno
import json
from pathlib import Path
import sys
import time
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy

from multishift_perception.bags import (
    COMPRESSED_IMAGE,
    IMAGE,
    BagReader,
    read_stamp,
    with_stamp,
)
from multishift_perception.demo.restamp import PlayStamps
from multishift_perception.demo.ros_types import message_class
from multishift_perception.disk import FullDiskError, reporting_full_disk
from multishift_perception.errors import MultishiftError
from multishift_perception.node.await_active import PATIENCE_S, wait_until_active

# Printed when the first message is due.
PLAYING = 'playing'
# What a camera driver offers: the newest image, and no sending again.
_CAMERA = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# For the subscribers of other topics, such as camera_info, to be matched too.
_SETTLE_S = 0.5


@dataclass
class Played:
    """What was sent.

    Attributes:
        offset_ns: what was added to every stamp.
        sent: messages by topic.
        latest_ms: how late the latest message was sent, in milliseconds.
    """

    offset_ns: int
    sent: dict[str, int] = field(default_factory=dict)
    latest_ms: float = 0.0


def play(bag: BagReader, topics: Sequence[str], publishers: Mapping[str, Any]) -> Played:
    """Publish a bag's messages at its own pace.

    Args:
        bag: the opened bag.
        topics: stamped topics of the bag.
        publishers: one per topic, which take serialised messages.
    """
    played: Played | None = None
    stamps = PlayStamps()
    for topic, _, cdr, bag_time in bag.raw_messages(topics):
        if played is None:
            played = Played(offset_ns=time.time_ns() - bag_time)
        wait = (bag_time + played.offset_ns - time.time_ns()) / 1e9
        if wait > 0:
            time.sleep(wait)
        played.latest_ms = max(played.latest_ms, -wait * 1e3)
        stamp = stamps.of(topic, read_stamp(cdr), bag_time)
        publishers[topic].publish(with_stamp(cdr, stamp + played.offset_ns))
        played.sent[topic] = played.sent.get(topic, 0) + 1
    if played is None:
        raise MultishiftError(f'{bag.path}: nothing to play on {", ".join(topics)}')
    return played


def wait_for_subscribers(publishers: Mapping[str, Any], patience_s: float = PATIENCE_S) -> None:
    """Return when every publisher has a subscriber.

    Raises:
        MultishiftError: after ``patience_s`` one has none.
    """
    deadline = time.monotonic() + patience_s
    while lonely := [t for t, p in publishers.items() if not p.get_subscription_count()]:
        if time.monotonic() > deadline:
            raise MultishiftError(
                f'{lonely[0]}: no subscriber within {patience_s:.0f} s; is its reader up?'
            )
        time.sleep(0.05)
    time.sleep(_SETTLE_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a bag; return the exit code."""
    options = _parser().parse_args(arguments)
    rclpy.init(args=[])
    node = rclpy.create_node('bag_player')
    try:
        with BagReader(options.bag) as bag:
            kinds = {topic: kind for topic, kind in bag.topics.items() if topic in options.topics}
            publishers = {
                topic: node.create_publisher(message_class(kind), topic, _CAMERA)
                for topic, kind in kinds.items()
            }
            if options.after:
                wait_until_active(node, options.after)
            images = {t: p for t, p in publishers.items() if kinds[t] in (IMAGE, COMPRESSED_IMAGE)}
            wait_for_subscribers(images)
            print(PLAYING, flush=True)
            played = play(bag, options.topics, publishers)
            # A publisher that goes at once takes its last message with it.
            time.sleep(_SETTLE_S)
        with reporting_full_disk('what was sent'):
            print(json.dumps(asdict(played)), flush=True)
    except FullDiskError:
        return errno.ENOSPC  # its words may find no room either
    except MultishiftError as error:
        print(f'bag player: {error}', file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='player', description=__doc__.splitlines()[0])
    parser.add_argument('bag', type=Path, help='the bag to play')
    parser.add_argument('topics', nargs='+', help='stamped topics of it')
    parser.add_argument('--after', help='a lifecycle node to wait for until it is active')
    return parser


if __name__ == '__main__':
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""CPU time of a frame outside the engine: our node, a plain one, and one that only receives.

    python test/benchmark/node_cost.py --json node_cost.json

Every node is a process of its own and gets the same 1080p bgr8 frame over DDS, with the shipped
profile; the next one is sent when all outputs that are watched have come. The nodes take turns.
The engine runs for the first frame only, then its outputs are repeated: what is left is the node.
The plain node (`plain_node.py`) computes two or four outputs, as its name here says; ``area``
marks the one that shrinks by OpenCV's ``INTER_AREA`` rather than as our node does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
import json
import os
from pathlib import Path
import statistics
import sys
from tempfile import TemporaryDirectory
import time
from typing import Any

import cv2
from node_processes import cpu_s, running, without_udp  # type: ignore[import-not-found]

SIZE = (1080, 1920)
WARM_UP, PATIENCE_S = 10, 10.0
# One that leaves shrinking and enlarging to the node, which is what is measured.
BACKEND = 'openvino'
TWO = ('labels', 'anomaly_mask')
FOUR = (*TWO, 'anomaly_score', 'overlay')
# Beside ours: does all four outputs, shrinks by INTER_AREA.
PLAIN = {
    'plain4': (True, False),
    'plain2': (False, False),
    'plain4_area': (True, True),
    'plain2_area': (False, True),
}
# Name of the row, what is watched, and which nodes have a turn.
CASES = [
    ('four outputs', FOUR, ('ours', 'plain4', 'plain4_area')),
    ('labels + mask', TWO, ('ours', 'plain2', 'plain2_area', 'plain4', 'plain4_area')),
    ('only received', ('received',), ('empty',)),
]


@dataclass
class Turn:
    """What a node spends, in CPU ms per frame, round by round."""

    case: str
    node: str
    cpu_ms: list[float]


def run_node(name: str) -> None:
    """Be one of the nodes; the engine is called for one frame."""
    import rclpy

    from multishift_perception.engine import Engine
    from multishift_perception.process.memory import keep_large_buffers

    call = Engine.infer
    kept: list[Any] = []

    def infer_once(engine: Engine, frames: Any) -> Any:
        if not frames.any():  # our node warms up
            return call(engine, frames)
        if not kept:
            kept.append(call(engine, frames))
        return kept[0]

    Engine.infer = infer_once  # type: ignore[method-assign, assignment]
    if name == 'ours':
        from multishift_perception.node.main import main as run

        topic = 'cameras.camera.image_topic:=/ours/image_raw'
        # The frame is sent again and again; its stamp is new each time.
        chosen = ['-r', '__node:=ours', '-p', topic, '-p', 'max_frame_age_ms:=0']
        sys.exit(run(['--ros-args', *chosen, '-p', f'backend:={BACKEND}']))
    keep_large_buffers()
    rclpy.init()
    if name == 'empty':
        node = _empty()
    else:
        from plain_node import PlainNode  # type: ignore[import-not-found]

        does_all, area = PLAIN[name]
        node = PlainNode(name, Engine.load(None, backend=BACKEND), does_all=does_all, area=area)
    rclpy.spin(node)


def _empty() -> Any:
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    node = rclpy.create_node('empty')
    publisher = node.create_publisher(Header, '/empty/camera/received', 1)
    node.create_subscription(
        Image,
        '/empty/image_raw',
        lambda message: publisher.publish(message.header),
        qos_profile_sensor_data,
    )
    return node


class Rig:
    """The camera and the watcher of all nodes."""

    def __init__(self, frame: Any) -> None:
        """Start to be one."""
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import Image

        rclpy.init()
        self.node = rclpy.create_node('rig')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        height, width = frame.shape[:2]
        self._message = Image(height=height, width=width, encoding='bgr8', step=width * 3)
        self._message.data.frombytes(frame.tobytes())
        self._cameras: dict[str, Any] = {}
        self._came: set[str] = set()

    @contextmanager
    def watch(self, name: str, topics: tuple[str, ...]) -> Iterator[Callable[[], None]]:
        """Watch these outputs of a node; what is given sends a frame and waits for all of them."""
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Image
        from std_msgs.msg import Header

        if name not in self._cameras:
            self._cameras[name] = self.node.create_publisher(
                Image, f'/{name}/image_raw', qos_profile_sensor_data
            )
        camera = self._cameras[name]
        subscriptions = [
            self.node.create_subscription(
                Header if topic == 'received' else Image,
                f'/{name}/camera/{topic}',
                lambda _, topic=topic: self._came.add(topic),
                1,
                raw=True,
            )
            for topic in topics
        ]

        def send() -> None:
            self._came.clear()
            self._message.header.stamp = self.node.get_clock().now().to_msg()
            camera.publish(self._message)
            self._spin_until(lambda: self._came.issuperset(topics))

        try:
            self._spin_until(
                lambda: (
                    camera.get_subscription_count()
                    and all(self.node.count_publishers(s.topic_name) for s in subscriptions)
                ),
                60.0,
            )
            self._spin_until(lambda: False, 1.0)
            yield send
        finally:
            for subscription in subscriptions:
                self.node.destroy_subscription(subscription)

    def _spin_until(self, done: Callable[[], Any], timeout: float = PATIENCE_S) -> None:
        end = time.monotonic() + timeout
        while not done() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)


def street() -> Any:
    """Return a 1080p frame of the sample drive, bgr8."""
    from multishift_perception.sample_drive import Drive

    image = Drive(7, seconds=12, size=(540, 960)).render('front', 3.0).image
    return cv2.cvtColor(cv2.resize(image, SIZE[::-1]), cv2.COLOR_RGB2BGR)


def measure(rounds: int, frames: int) -> list[Turn]:
    """Let the nodes take turns."""
    rig = Rig(street())
    turns = [Turn(case, node, []) for case, _, nodes in CASES for node in nodes]
    watched = {case: topics for case, topics, _ in CASES}
    names = dict.fromkeys(turn.node for turn in turns)
    with ExitStack() as children:
        pids = {
            name: children.enter_context(running([sys.executable, __file__, '--be', name])).pid
            for name in names
        }
        for _ in range(rounds):
            for turn in turns:
                pid = pids[turn.node]
                with rig.watch(turn.node, watched[turn.case]) as send:
                    for _ in range(WARM_UP):
                        send()
                    begin = cpu_s(pid)
                    for _ in range(frames):
                        send()
                    turn.cpu_ms.append((cpu_s(pid) - begin) / frames * 1e3)
    return turns


def table(turns: list[Turn]) -> str:
    """Return the table; ratios are of the same round, their median and range."""
    lines = ['| | node | CPU ms per frame | over ours |', '|---|---|---|---|']
    for turn in turns:
        ours = next((t for t in turns if (t.case, t.node) == (turn.case, 'ours')), None)
        ratio = ''
        if ours not in (None, turn):
            ratios = [a / b for a, b in zip(turn.cpu_ms, ours.cpu_ms, strict=True)]
            ratio = _spread(ratios)
        lines.append(f'| {turn.case} | {turn.node} | {_spread(turn.cpu_ms)} | {ratio} |')
    return '\n'.join(lines)


def _spread(values: list[float]) -> str:
    return f'{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})'


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--frames', type=int, default=40, help='of a turn')
    parser.add_argument('--without-udp', action='store_true', help='shared memory alone')
    parser.add_argument('--json', type=Path)
    parser.add_argument('--be', help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.be:
        run_node(chosen.be)
        return
    from multishift_perception.demo.environment import graph_environment

    os.environ.update(graph_environment())
    with TemporaryDirectory() as folder:
        if chosen.without_udp:
            os.environ.update(without_udp(Path(folder)))
        turns = measure(chosen.rounds, chosen.frames)
    print(table(turns))
    if chosen.json:
        rows = [vars(turn) for turn in turns]
        chosen.json.write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
    main()

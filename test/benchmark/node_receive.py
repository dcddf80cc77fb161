# SPDX-License-Identifier: Apache-2.0
"""What six 1080p cameras at 30 Hz cost before anything is computed: received, and dropped.

    python test/benchmark/node_receive.py --json node_receive.json

The node's engine is asleep all the time, so that nearly every frame gives way to a newer one.
Beside it an empty node, which subscribes in the same way to the same six topics. Both take turns
on the same frames. Where the machine cannot send 180 frames a second, the table says how many
came, and what 180 of them would cost.
"""

from __future__ import annotations

import argparse
from functools import partial
import json
import os
from pathlib import Path
import statistics
import subprocess
import sys
import time
from typing import Any

from node_processes import cpu_s  # type: ignore[import-not-found]

CAMERAS, RATE = 6, 30.0
SIZE = (1080, 1920)
NODES = ('ours', 'empty')
COUNTS = '/{}/received'


def run_node(name: str) -> None:
    """Be one of the nodes, and tell twice a second how many frames have come."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image
    from std_msgs.msg import UInt64

    from multishift_perception.process.memory import keep_large_buffers

    received = UInt64()

    def count(frames: int = 1) -> None:
        received.data += frames

    if name == 'ours':
        from multishift_perception.engine import Engine
        from multishift_perception.node import node as ours
        from multishift_perception.node import run
        from multishift_perception.node.given_parameters import GivenParameters
        from multishift_perception.node.main import main
        from multishift_perception.node.stream_statistics import StreamStatistics

        call, receive = Engine.infer, StreamStatistics.receive

        def sleep(engine: Engine, frames: Any) -> Any:
            if frames.any():
                time.sleep(2.0)
            return call(engine, frames)

        def counted(statistics: StreamStatistics, frames: int = 1) -> None:
            count(frames)
            receive(statistics, frames)

        class Told(ours.PerceptionNode):
            """Ours, which tells its count."""

            def __init__(self, given: GivenParameters | None = None) -> None:
                """Add the topic."""
                super().__init__(given)
                _tell(self, name, received)

        Engine.infer = sleep  # type: ignore[method-assign, assignment]
        StreamStatistics.receive = counted  # type: ignore[method-assign, assignment]
        run.PerceptionNode = Told  # type: ignore[attr-defined]
        cameras = [f'camera{i}' for i in range(CAMERAS)]
        names = f'camera_names:=[{", ".join(cameras)}]'
        topics = [f'cameras.{c}.image_topic:=/{c}/image_raw' for c in cameras]
        # `Engine.infer` is what it calls; a GPU would be given pictures.
        chosen = (names, 'backend:=openvino', *topics)
        words = [word for parameter in chosen for word in ('-p', parameter)]
        sys.exit(main(['--ros-args', '-p', 'autostart:=true', *words]))
    keep_large_buffers()
    rclpy.init()
    node = rclpy.create_node(name)
    _tell(node, name, received)
    subscriptions: list[Any] = []

    def watch() -> None:
        # As ours, it subscribes only in its turn.
        watched = node.count_subscribers('/empty/watched') > 0
        if watched and not subscriptions:
            qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
            for i in range(CAMERAS):
                topic = f'/camera{i}/image_raw'
                new = node.create_subscription(Image, topic, lambda _: count(), qos)
                subscriptions.append(new)
        while subscriptions and not watched:
            node.destroy_subscription(subscriptions.pop())

    node.create_timer(0.2, watch)
    try:
        rclpy.spin(node)
    except ExternalShutdownException:
        pass


def _tell(node: Any, name: str, received: Any) -> None:
    from std_msgs.msg import UInt64

    publisher = node.create_publisher(UInt64, COUNTS.format(name), 1)
    node.create_timer(0.5, partial(publisher.publish, received))


def send() -> None:
    """Be the cameras of one process: six topics at 30 Hz each, as far as the machine can."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node('cameras')
    height, width = SIZE
    message = Image(height=height, width=width, encoding='bgr8', step=width * 3)
    # Not black, by which the node's engine knows the frames that it is warmed up with.
    message.data.frombytes(b'\x80' * (height * width * 3))
    cameras = [
        node.create_publisher(Image, f'/camera{i}/image_raw', qos_profile_sensor_data)
        for i in range(CAMERAS)
    ]
    due = time.monotonic()
    while True:
        for camera in cameras:
            if camera.get_subscription_count():
                message.header.stamp = node.get_clock().now().to_msg()
                camera.publish(message)
        due = max(due + 1 / RATE, time.monotonic() - 1 / RATE)
        time.sleep(max(0.0, due - time.monotonic()))


def measure(rounds: int, seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Return for each node and round the frames received a second and the CPU ms of each."""
    import rclpy
    from sensor_msgs.msg import Image
    from std_msgs.msg import Empty, UInt64

    rclpy.init()
    rig = rclpy.create_node('rig')
    counts = dict.fromkeys(NODES, 0)
    for name in NODES:
        rig.create_subscription(
            UInt64, COUNTS.format(name), lambda m, name=name: counts.update({name: m.data}), 1
        )

    def spin(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(rig, timeout_sec=0.1)

    watched: dict[str, list[tuple[Any, str]]] = {
        'ours': [(Image, f'/multishift_perception/camera{i}/labels') for i in range(CAMERAS)],
        'empty': [(Empty, '/empty/watched')],
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in NODES}
    roles = {role: [sys.executable, __file__, '--be', role] for role in (*NODES, 'cameras')}
    children = {r: subprocess.Popen(c, stderr=subprocess.DEVNULL) for r, c in roles.items()}
    try:
        while not all(rig.count_publishers(COUNTS.format(name)) for name in NODES):
            spin(0.5)
        spin(5.0)  # ours loads its engine
        for _ in range(rounds):
            for name in NODES:
                pid = children[name].pid
                watchers = [
                    rig.create_subscription(kind, topic, lambda _: None, 1)
                    for kind, topic in watched[name]
                ]
                before = counts[name]
                while counts[name] < before + 20:
                    spin(0.2)
                begin, cpu, first = time.monotonic(), cpu_s(pid), counts[name]
                spin(seconds)
                frames, spent = counts[name] - first, cpu_s(pid) - cpu
                found[name].append((frames / (time.monotonic() - begin), spent / frames * 1e3))
                for watcher in watchers:
                    rig.destroy_subscription(watcher)
                spin(2.5)
    finally:
        for child in children.values():
            child.kill()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seconds', type=float, default=8.0, help='of a turn')
    parser.add_argument('--json', type=Path)
    parser.add_argument('--be', help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.be:
        send() if chosen.be == 'cameras' else run_node(chosen.be)
        return
    from multishift_perception.demo.environment import graph_environment

    os.environ.update(graph_environment())
    found = measure(chosen.rounds, chosen.seconds)
    print('| node | frames received a second | CPU ms per frame | cores at 180 a second |')
    print('|---|---|---|---|')
    for name, turns in found.items():
        rates, costs = zip(*turns, strict=True)
        spread = f'{statistics.median(costs):.2f} ({min(costs):.2f} to {max(costs):.2f})'
        cores = statistics.median(costs) * CAMERAS * RATE / 1e3
        print(f'| {name} | {statistics.median(rates):.0f} | {spread} | {cores:.2f} |')
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
    main()

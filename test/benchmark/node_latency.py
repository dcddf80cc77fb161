# SPDX-License-Identifier: Apache-2.0
"""From a frame's stamp to its anomaly mask at a subscriber, over DDS, for several cameras.

    python test/benchmark/node_latency.py --cameras 1,4,8 --against OTHER_CHECKOUT --json FILE

Each measurement has a publisher, a node and a subscriber in processes of their own. The cameras
send noise of 1280 x 720 pixels, evenly staggered. The node of this checkout, and of the other one
if there is one, take turns in every round, so that what slows the machine slows both. "turn" is
what the node says of decoding, engine call and publishing together, in engine calls.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import asdict, dataclass, field
import json
import os
from pathlib import Path
import sys
import time
from typing import Any

from node_processes import cpu_s, running  # type: ignore[import-not-found]
import numpy as np

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / 'config' / 'fastdds_shm.xml'
HEIGHT, WIDTH = 720, 1280
WARM_UP_S = 3.0
PATIENCE_S = 120.0
NODE = '/multishift_perception'


@dataclass
class Measured:
    """What one code did with so many cameras, over all rounds."""

    code: str
    cameras: int
    seconds: float = 0.0
    cpu_s: float = 0.0
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)
    sent_hz: list[float] = field(default_factory=list)
    calls_per_turn: list[float] = field(default_factory=list)

    def row(self) -> str:
        """Return the row of the table."""
        every = [ms for values in self.latencies_ms.values() for ms in values]
        rates = [len(values) / self.seconds for values in self.latencies_ms.values()] or [0.0]
        p50, p95, p99 = np.percentile(every, [50, 95, 99]) if every else [float('nan')] * 3
        turn = f'{np.median(self.calls_per_turn):.2f}' if self.calls_per_turn else ''
        cells = (
            str(self.cameras),
            self.code,
            f'{np.median(self.sent_hz):.1f}' if self.sent_hz else '',
            f'{min(rates):.1f} to {max(rates):.1f}',
            f'{p50:.0f}',
            f'{p95:.0f}',
            f'{p99:.0f}',
            turn,
            f'{self.cpu_s / self.seconds:.2f}',
            f'{1000 * self.cpu_s / max(len(every), 1):.0f}',
        )
        return f'| {" | ".join(cells)} |'


TITLES = (
    'cameras',
    'code',
    'sent Hz',
    'masks Hz',
    'p50 ms',
    'p95 ms',
    'p99 ms',
    'turn, calls',
    'cores',
    'CPU ms per mask',
)


def publish(cameras: int, rate: float) -> None:
    """Send frames of every camera, evenly staggered, until a signal ends it."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node('cameras')
    publishers = [
        node.create_publisher(Image, f'/camera{i}/image_raw', qos_profile_sensor_data)
        for i in range(cameras)
    ]
    pixels = np.random.default_rng(0).integers(0, 256, HEIGHT * WIDTH * 3, np.uint8)
    message = Image(height=HEIGHT, width=WIDTH, encoding='rgb8', step=WIDTH * 3)
    message.data.frombytes(pixels.tobytes())
    begin, count = time.monotonic(), 0
    try:
        while True:
            due = begin + count / rate / cameras
            time.sleep(max(0.0, due - time.monotonic()))
            message.header.frame_id = str(count)
            message.header.stamp = node.get_clock().now().to_msg()
            publishers[count % cameras].publish(message)
            count += 1
    except KeyboardInterrupt:
        pass


def environment_of(checkout: Path) -> dict[str, str]:
    """Return what makes a process use a checkout's code."""
    profile = {'FASTRTPS_DEFAULT_PROFILES_FILE': str(PROFILE)}
    return {**os.environ, **profile, 'PYTHONPATH': str(checkout)}


class Subscriber:
    """Receives the masks of all cameras, and what the node says of itself."""

    def __init__(self, cameras: int) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        import rclpy
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        self.node = rclpy.create_node('masks')
        self.latencies_ms: dict[str, list[float]] = defaultdict(list)
        # Of the first and the last mask: its frame's number and stamp.
        self.frames: list[tuple[int, int]] = []
        self.engine: dict[str, str] = {}
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        for i in range(cameras):
            self.node.create_subscription(
                Image, f'{NODE}/camera{i}/anomaly_mask', self._receiver(f'camera{i}'), qos
            )
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnose, 10)

    def _receiver(self, camera: str) -> Any:
        def receive(message: Any) -> None:
            now = self.node.get_clock().now().nanoseconds
            stamp = message.header.stamp
            stamp_ns = stamp.sec * 10**9 + stamp.nanosec
            self.latencies_ms[camera].append((now - stamp_ns) / 1e6)
            self.frames[1:] = [(int(message.header.frame_id), stamp_ns)]

        return receive

    def _diagnose(self, message: Any) -> None:
        for status in message.status:
            if status.name.endswith(': engine'):
                self.engine = {pair.key: pair.value for pair in status.values}

    def spin(self, seconds: float) -> None:
        """Receive for a while."""
        import rclpy

        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self.node, timeout_sec=left)

    def wait(self) -> None:
        """Receive until the first mask comes."""
        begin = time.monotonic()
        while not self.latencies_ms:
            if time.monotonic() - begin > PATIENCE_S:
                raise SystemExit('no mask came')
            self.spin(0.2)


def measure(checkout: Path, cameras: int, rate: float, seconds: float, into: Measured) -> None:
    """Measure one node, and add it to what is known of its code."""
    names = ', '.join(f'camera{i}' for i in range(cameras))
    arguments = ['--ros-args', '-p', f'camera_names:=[{names}]', '-p', 'max_frame_age_ms:=0']
    node_command = [sys.executable, '-m', 'multishift_perception.node.main', *arguments]
    sender_command = [sys.executable, __file__, '--publish', str(cameras), str(rate)]
    with (
        running(node_command, cwd=checkout, env=environment_of(checkout)) as node,
        running(sender_command, cwd=ROOT, env=environment_of(ROOT)),
    ):
        subscriber = Subscriber(cameras)
        subscriber.wait()
        subscriber.spin(WARM_UP_S)
        subscriber.latencies_ms.clear()
        subscriber.frames.clear()
        cpu, begin = cpu_s(node.pid), time.monotonic()
        subscriber.spin(seconds)
        into.seconds += time.monotonic() - begin
        into.cpu_s += cpu_s(node.pid) - cpu
        for camera, values in subscriber.latencies_ms.items():
            into.latencies_ms.setdefault(camera, []).extend(values)
        if len(subscriber.frames) == 2:
            (first, begun), (last, ended) = subscriber.frames
            into.sent_hz.append((last - first) / cameras / max(ended - begun, 1) * 1e9)
        turn, call = (subscriber.engine.get(f'{k} time p50 (ms)') for k in ('turn', 'call'))
        if turn and call:
            into.calls_per_turn.append(float(turn) / float(call))
        subscriber.node.destroy_node()


def main() -> None:
    """Take turns and print a table."""
    import rclpy

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cameras', default='1,4,8', help='how many, one measurement for each')
    parser.add_argument('--rate', type=float, default=10.0, help='frames per second of a camera')
    parser.add_argument('--seconds', type=float, default=10.0, help='of each measurement')
    parser.add_argument('--rounds', type=int, default=3, help='measurements of each code')
    parser.add_argument('--against', type=Path, help='another checkout, to compare with')
    parser.add_argument('--json', type=Path, help='where to write all latencies')
    chosen = parser.parse_args()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', str(20 + os.getpid() % 80))
    codes = {'other': chosen.against.resolve()} if chosen.against else {}
    codes['this'] = ROOT
    rclpy.init()
    results = []
    print(f'| {" | ".join(TITLES)} |\n|{"---|" * len(TITLES)}')
    for cameras in map(int, chosen.cameras.split(',')):
        found = {code: Measured(code, cameras) for code in codes}
        for _ in range(chosen.rounds):
            for code, checkout in codes.items():
                measure(checkout, cameras, chosen.rate, chosen.seconds, found[code])
        for measured in found.values():
            print(measured.row(), flush=True)
            results.append(asdict(measured))
    rclpy.shutdown()
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))


if __name__ == '__main__':
    if sys.argv[1:2] == ['--publish']:
        publish(int(sys.argv[2]), float(sys.argv[3]))
    else:
        main()

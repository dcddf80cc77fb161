# SPDX-License-Identifier: Apache-2.0
"""Whether a node stays as it is: memory, threads, handles, segments and age over time.

    python test/benchmark/soak.py --minutes 60 --json soak.json

The node, its cameras and a subscriber that comes and goes run in processes of their own. While the
node warms up, all of its outputs are watched and it is stopped for moments, so that as many frames
pile up as ever will, and all buffers are there that it can need: what comes later is a leak.
Growth is what the later half has more than the earlier one, once the node is warm. Exits with 1
where it is more than is right, or the node did not live to the end.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
import json
import os
from pathlib import Path
import random
import statistics
import sys
import time
from typing import Any

from node_processes import cpu_s, running  # type: ignore[import-not-found]
import psutil

from multishift_perception.demo.environment import graph_environment

NODE = '/multishift_perception'
OUTPUTS = ('labels', 'anomaly_mask', 'anomaly_score', 'overlay')
HEIGHT, WIDTH = 720, 1280
CHURN_S = 0.5
PATIENCE_S = 120.0
# What is right of a node that is warm: nothing grows by more (percent), and the median age by less
# than a frame takes to come.
GROWTH = 0.5
WARM_MIN, SAMPLE_S = 5.0, 30.0
# Of a short run a part is the warm-up, and there are as many samples as tell halves apart.
WARM_PART, FEWEST_SAMPLES = 0.25, 12
# Of the warm-up, and seconds, from and to: of a stop, and of the time between two.
SHAKEN_PART, STOP_S = 0.5, (0.1, 0.6)


@dataclass(frozen=True)
class Sample:
    """The node at one moment; what is of frames, since the sample before it.

    Attributes:
        minute: minutes since the first mask.
        rss_mb: resident memory.
        threads: threads of the process.
        handles: open files and sockets.
        segments: shared memory of Fast DDS that the process has mapped.
        cores: cores in use.
        masks: masks received, of all cameras.
        p50_ms: median age of a mask by its stamp.
        p99_ms: 99th percentile of it.
        level: highest level of a diagnostic status.
    """

    minute: float
    rss_mb: float
    threads: int
    handles: int
    segments: int
    cores: float
    masks: int
    p50_ms: float
    p99_ms: float
    level: int


def send(cameras: int, rate: float) -> None:
    """Be the cameras: noise at a rate each, staggered."""
    import numpy as np
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node('cameras')
    publishers = [
        node.create_publisher(Image, f'/camera{i}/image_raw', qos_profile_sensor_data)
        for i in range(cameras)
    ]
    message = Image(height=HEIGHT, width=WIDTH, encoding='bgr8', step=WIDTH * 3)
    pixels = np.random.default_rng(0).integers(0, 256, HEIGHT * WIDTH * 3, np.uint8)
    message.data.frombytes(pixels.tobytes())
    due = time.monotonic()
    while rclpy.ok():
        for camera in publishers:
            due = max(due + 1 / rate / cameras, time.monotonic() - 1 / rate)
            time.sleep(max(0.0, due - time.monotonic()))
            message.header.stamp = node.get_clock().now().to_msg()
            camera.publish(message)


def churn(cameras: int) -> None:
    """Be a subscriber of one output after the other, each for a moment."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node('visitor')
    choice = random.Random(0)
    while rclpy.ok():
        topic = f'{NODE}/camera{choice.randrange(cameras)}/{choice.choice(OUTPUTS)}'
        visit = node.create_subscription(Image, topic, lambda _: None, qos_profile_sensor_data)
        end = time.monotonic() + CHURN_S
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(node, timeout_sec=left)
        node.destroy_subscription(visit)


class Watcher:
    """Receives the masks of all cameras and the diagnostics, and looks at the node's process."""

    def __init__(self, cameras: int, process: psutil.Process) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        import rclpy
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Image

        rclpy.init()
        self._spin_once = rclpy.spin_once
        self._node = rclpy.create_node('watcher')
        self._process = process
        self._outputs = [
            (Image, f'{NODE}/camera{i}/{output}', lambda _: None, qos_profile_sensor_data)
            for i in range(cameras)
            for output in OUTPUTS
        ]
        self._ages_ms: list[float] = []
        self._level = 0
        for i in range(cameras):
            self._node.create_subscription(
                Image, f'{NODE}/camera{i}/anomaly_mask', self._receive, qos_profile_sensor_data
            )
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnose, 10)
        begin = time.monotonic()
        while not self._ages_ms:
            if not process.is_running() or time.monotonic() - begin > PATIENCE_S:
                raise SystemExit('no mask came')
            self._spin(0.5)
        self._begin = self._last = time.monotonic()
        self._cpu_s = cpu_s(process.pid)

    def sample(self, seconds: float, *, shake: bool) -> Sample:
        """Receive for a while, and return what was seen.

        Args:
            seconds: how long.
            shake: whether to watch all outputs meanwhile, and to stop the node again and again.
        """
        self._ages_ms.clear()
        self._level = 0
        if shake:
            self._shake(seconds)
        else:
            self._spin(seconds)
        now, spent = time.monotonic(), cpu_s(self._process.pid)
        ages = sorted(self._ages_ms)
        with self._process.oneshot():
            sample = Sample(
                minute=round((now - self._begin) / 60, 2),
                rss_mb=round(self._process.memory_info().rss / 1e6, 1),
                threads=self._process.num_threads(),
                handles=self._process.num_fds(),
                segments=len(self._segments()),
                cores=round((spent - self._cpu_s) / (now - self._last), 2),
                masks=len(ages),
                p50_ms=round(statistics.median(ages), 1) if ages else float('nan'),
                p99_ms=round(ages[len(ages) * 99 // 100], 1) if ages else float('nan'),
                level=self._level,
            )
        self._last, self._cpu_s = now, spent
        return sample

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._spin_once(self._node, timeout_sec=left)

    def _shake(self, seconds: float) -> None:
        watched = [self._node.create_subscription(*output, raw=True) for output in self._outputs]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._process.suspend()
            try:
                self._spin(random.uniform(*STOP_S))
            finally:
                self._process.resume()
            self._spin(random.uniform(*STOP_S))
        for subscription in watched:
            self._node.destroy_subscription(subscription)

    def _segments(self) -> set[str]:
        maps = Path(f'/proc/{self._process.pid}/maps').read_text().splitlines()
        return {line.split()[-1] for line in maps if '/dev/shm/fastrtps' in line}

    def _receive(self, message: Any) -> None:
        now, stamp = self._node.get_clock().now().nanoseconds, message.header.stamp
        self._ages_ms.append((now - stamp.sec * 10**9 - stamp.nanosec) / 1e6)

    def _diagnose(self, message: Any) -> None:
        levels = (int.from_bytes(status.level, 'little') for status in message.status)
        self._level = max(self._level, *levels)


def growth(samples: Sequence[Sample], warm_min: float) -> dict[str, float]:
    """Return by how much the later half of the warm samples exceeds the earlier, of some values.

    Memory, threads, handles and segments in percent, ages in milliseconds.
    """
    warm = [sample for sample in samples if sample.minute > warm_min]
    if len(warm) < 2:
        return {}
    halves = warm[: len(warm) // 2], warm[len(warm) // 2 :]

    def means(name: str) -> list[float]:
        return [statistics.mean(getattr(sample, name) for sample in half) for half in halves]

    found = {}
    for name in ('rss_mb', 'threads', 'handles', 'segments'):
        before, after = means(name)
        found[f'{name} %'] = round(100 * (after / before - 1), 2) if before else 0.0
    for name in ('p50_ms', 'p99_ms'):
        before, after = means(name)
        found[name] = round(after - before, 1)
    return found


def beyond(grown: Mapping[str, float], frame_ms: float) -> list[str]:
    """Return what grew by more than is right; ``frame_ms`` is from one frame to the next."""
    found = [name for name, value in grown.items() if name.endswith('%') and value > GROWTH]
    if grown.get('p50_ms', 0.0) >= frame_ms:
        found.append('p50_ms')
    return [f'{name} {grown[name]:+}' for name in found]


def main() -> int:
    """Watch, and print a row for each interval."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=60.0)
    parser.add_argument('--cameras', type=int, default=4)
    parser.add_argument('--rate', type=float, default=5.0, help='frames per second of a camera')
    parser.add_argument('--every', type=float, help='seconds between samples (at most 30)')
    parser.add_argument('--warm', type=float, help='minutes that do not count (at most 5)')
    parser.add_argument('--json', type=Path)
    parser.add_argument('--be', choices=('cameras', 'visitor'), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.be == 'cameras':
        send(chosen.cameras, chosen.rate)
        return 0
    if chosen.be == 'visitor':
        churn(chosen.cameras)
        return 0
    warm = min(WARM_MIN, WARM_PART * chosen.minutes) if chosen.warm is None else chosen.warm
    every = chosen.every or min(SAMPLE_S, 60 * chosen.minutes / FEWEST_SAMPLES)
    os.environ.update(graph_environment())
    names = ', '.join(f'camera{i}' for i in range(chosen.cameras))
    options = ['--ros-args', '-p', f'camera_names:=[{names}]', '-p', 'max_frame_age_ms:=0']
    own = [sys.executable, __file__, '--cameras', str(chosen.cameras), '--rate', str(chosen.rate)]
    samples: list[Sample] = []
    columns = list(Sample.__annotations__)
    with (
        running([sys.executable, '-m', 'multishift_perception.node.main', *options]) as node,
        running([*own, '--be', 'cameras']),
        running([*own, '--be', 'visitor']),
    ):
        watcher = Watcher(chosen.cameras, psutil.Process(node.pid))
        print(f'| {" | ".join(columns)} |\n|{"---|" * len(columns)}', flush=True)
        while not samples or samples[-1].minute < chosen.minutes:
            is_early = not samples or samples[-1].minute < SHAKEN_PART * warm
            sample = watcher.sample(every, shake=is_early)
            if node.poll() is not None:
                print(f'the node ended with code {node.returncode}', file=sys.stderr)
                return 1
            samples.append(sample)
            print(f'| {" | ".join(map(str, asdict(samples[-1]).values()))} |', flush=True)
    grown = growth(samples, warm)
    faults = beyond(grown, 1000 / chosen.rate)
    words = [f'{name} {value:+}' for name, value in grown.items()]
    print(f'\ngrowth after {warm:g} minutes: {", ".join(words) or "unknown: too short"}')
    print(f'beyond what is right: {", ".join(faults) or "nothing"}')
    if chosen.json:
        found = {
            'samples': [asdict(sample) for sample in samples],
            'warm': warm,
            'growth': grown,
            'beyond': faults,
        }
        chosen.json.write_text(json.dumps(found, indent=1) + '\n')
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""How many 1080p images arrive over DDS, with Fast DDS's defaults and with the shipped profile.

    python test/benchmark/dds_delivery.py

One process publishes 90 frames at 30 Hz, another subscribes with best effort, depth 1. The two
settings take turns, three times each; the profile is set for the publisher alone.
"""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys
import time

PROFILE = Path(__file__).parents[2] / 'config' / 'fastdds_shm.xml'
FRAMES, RATE = 90, 30.0
TOPIC = '/camera/image_raw'


def publish() -> None:
    """Publish the frames once a subscriber is there."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node('camera')
    publisher = node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
    message = Image(height=1080, width=1920, encoding='rgb8', step=1920 * 3)
    message.data.frombytes(bytes(1080 * 1920 * 3))
    while publisher.get_subscription_count() == 0:
        time.sleep(0.05)
    time.sleep(1.0)
    for _ in range(FRAMES):
        begin = time.monotonic()
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        time.sleep(max(0.0, 1 / RATE - (time.monotonic() - begin)))
    time.sleep(1.0)


def subscribe(publisher: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Return how many frames arrived until the publisher ended, and their median latency (ms)."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from rclpy.time import Time
    from sensor_msgs.msg import Image

    node = rclpy.create_node('subscriber')
    latencies: list[float] = []

    def receive(message: Image) -> None:
        age = node.get_clock().now() - Time.from_msg(message.header.stamp)
        latencies.append(age.nanoseconds / 1e6)

    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, TOPIC, receive, qos)
    while publisher.poll() is None:
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_node()
    return len(latencies), sorted(latencies)[len(latencies) // 2] if latencies else float('nan')


def main() -> None:
    """Take turns and print a table."""
    import rclpy

    rclpy.init()
    print('| publisher | frames of 90 | median latency |\n|---|---|---|')
    for _ in range(3):
        for name, variables in {
            'Fast DDS defaults': {},
            'shipped profile': {'FASTRTPS_DEFAULT_PROFILES_FILE': str(PROFILE)},
        }.items():
            environment = {**os.environ, **variables}
            child = subprocess.Popen([sys.executable, __file__, 'publish'], env=environment)
            arrived, median = subscribe(child)
            print(f'| {name} | {arrived} | {median:.1f} ms |', flush=True)
    rclpy.shutdown()


if __name__ == '__main__':
    publish() if sys.argv[1:] == ['publish'] else main()

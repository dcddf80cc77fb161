# SPDX-License-Identifier: Apache-2.0
"""The judge over runs that were written by hand: what the processes would have left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy')

from mcap.writer import Writer as McapWriter
from rosbags.typesys import Stores, get_typestore

from multishift_perception import bags
from multishift_perception.demo.graph import GraphRun, Source
from multishift_perception.demo.judge import judge
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.outputs import DIAGNOSTICS, NODE

TYPES = get_typestore(Stores.ROS2_JAZZY)
STEP = 100_000_000
SIZE = (64, 96)
ARRAY = 'diagnostic_msgs/msg/DiagnosticArray'


@pytest.fixture(scope='module')
def engine(tiny_bundle: Path) -> Engine:
    return Engine.load(tiny_bundle, backend='openvino')


def diagnose(bag: bags.BagWriter, time: int, cameras: dict[str, dict[str, int]]) -> None:
    kinds = TYPES.types
    status = [
        kinds['diagnostic_msgs/msg/DiagnosticStatus'](
            level=0,
            name=f'{NODE.strip("/")}: camera {camera}',
            message='',
            hardware_id='',
            values=[
                kinds['diagnostic_msgs/msg/KeyValue'](key=key, value=str(value))
                for key, value in values.items()
            ],
        )
        for camera, values in cameras.items()
    ]
    array = kinds[ARRAY](header=bags.header(time, ''), status=status)
    bag.raw(DIAGNOSTICS, ARRAY, bytes(TYPES.serialize_cdr(array, ARRAY)), time)


def answer(bag: bags.BagWriter, camera: str, stamp: int) -> None:
    """Write what the node sends for a frame; the receipt does not matter here."""
    for name, kind in (('labels', np.uint8), ('anomaly_mask', np.uint8)):
        bag.image(f'{NODE}/{camera}/{name}', stamp, camera, np.zeros(SIZE, kind))
    score = np.zeros(SIZE, np.float32)
    bag.image(f'{NODE}/{camera}/anomaly_score', stamp, camera, score)
    overlay = TYPES.types[bags.COMPRESSED_IMAGE](
        header=bags.header(stamp, camera), format='jpeg', data=np.zeros(1, np.uint8)
    )
    cdr = bytes(TYPES.serialize_cdr(overlay, bags.COMPRESSED_IMAGE))
    bag.raw(f'{NODE}/{camera}/overlay/compressed', bags.COMPRESSED_IMAGE, cdr, stamp)


def black(stamp: int) -> bytes:
    image = TYPES.types[bags.IMAGE](
        header=bags.header(stamp, ''),
        height=SIZE[0],
        width=SIZE[1],
        encoding='rgb8',
        is_bigendian=0,
        step=SIZE[1] * 3,
        data=np.zeros(SIZE[0] * SIZE[1] * 3, np.uint8),
    )
    return bytes(TYPES.serialize_cdr(image, bags.IMAGE))


def run(tmp_path: Path, cameras: list[str], sent: dict[str, int]) -> GraphRun:
    sources = tuple(Source(c, f'/{c}/image_raw', bags.IMAGE, None) for c in cameras)
    return GraphRun(tmp_path / 'results.mcap', 0, sent, 0.0, sources, tmp_path / 'log')


def test_a_run_without_outputs_names_causes_and_counts(tmp_path: Path, engine: Engine) -> None:
    with bags.BagWriter(tmp_path / 'drive.mcap') as bag:
        for i in range(4):
            bag.image('/front/image_raw', i * STEP, 'front', np.zeros((*SIZE, 3), np.uint8))
    with bags.BagWriter(tmp_path / 'results.mcap') as bag:
        camera = {'received': 3, 'processed': 0, 'dropped: stale': 3}
        diagnose(bag, 9 * STEP, {'front': camera})
    with pytest.raises(MultishiftError) as caught:
        judge(tmp_path / 'drive.mcap', run(tmp_path, ['front'], {'/front/image_raw': 4}), engine)
    error = str(caught.value)
    assert (
        'no outputs for the 4 frames that were played (3 stale, 1 lost before the node)' in error
    )
    assert str(tmp_path / 'log' / 'node.log') in error
    assert 'results.mcap' not in error


def test_outputs_of_cameras_with_different_lags_and_of_one_that_is_silent(
    tmp_path: Path, engine: Engine
) -> None:
    lags = {'front': 0, 'left': 60_000_000}
    with (tmp_path / 'drive.mcap').open('wb') as file:
        writer = McapWriter(file)
        writer.start(profile='ros2')
        schema = writer.register_schema(bags.IMAGE, 'ros2msg', b'')
        channels = {
            c: writer.register_channel(f'/{c}/image_raw', 'cdr', schema)
            for c in ('front', 'left', 'rear')
        }
        for i in range(1, 5):
            for camera, lag in lags.items():
                writer.add_message(channels[camera], i * STEP, black(i * STEP - lag), 0)
        writer.finish()
    processed = {'received': 4, 'processed': 4}
    with bags.BagWriter(tmp_path / 'results.mcap') as bag:
        for i in range(1, 5):
            # Outputs of the frame with the earlier stamp come first.
            answer(bag, 'left', i * STEP - lags['left'])
            answer(bag, 'front', i * STEP)
        silent = {'received': 0, 'processed': 0}
        cameras = {'front': processed, 'left': processed, 'rear': silent}
        diagnose(bag, 9 * STEP, cameras)
    sent = {'/front/image_raw': 4, '/left/image_raw': 4}
    left = run(tmp_path, ['front', 'left', 'rear'], sent)
    report = judge(tmp_path / 'drive.mcap', left, engine)
    assert [(c.camera, c.sent, c.received, dict(c.dropped)) for c in report.counts] == [
        ('front', 4, 4, {}),
        ('left', 4, 4, {}),
        ('rear', 0, 0, {}),
    ]
    assert [frame.dropped for frame in report.frames] == [''] * 8
    assert report.warnings == ()

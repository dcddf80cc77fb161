# SPDX-License-Identifier: Apache-2.0
"""Trouble around a node, over DDS: what it says of it, and that outputs stay right."""

from __future__ import annotations

from pathlib import Path
import signal
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import CompressedImage, Image

from multishift_perception.classes import color_table
from multishift_perception.engine import Engine
from multishift_perception.frame_tally import Drop
from multishift_perception.overlay import ALPHA, draw_overlay
from multishift_perception.pipeline import Pipeline, anomaly_mask, score_unit

RED = (255, 0, 0)
SIZES = {'front': (48, 64), 'left': (64, 96), 'rear': (97, 131)}
OUT = '/multishift_perception/{}/{}'


@pytest.fixture(scope='module')
def node(start_node, tiny_bundle_of_sizes):
    node = start_node(
        engine_bundle=tiny_bundle_of_sizes,
        camera_names='[front, left, rear, jpeg]',
        **{'cameras.jpeg.transport': 'compressed'},
        # The machine that runs the tests may be slow.
        max_frame_age_ms=5000,
    )
    yield node
    assert node.is_alive, node.log
    assert node.stop() == 0, node.log


@pytest.fixture
def active(node, peer):
    peer.status('engine', lambda _, values: values['state'] == 'active')


def image(pixels, stamp):
    height, width, _ = pixels.shape
    message = Image(height=height, width=width, encoding='rgb8', step=width * 3)
    message.header.frame_id = 'camera'
    message.header.stamp = stamp
    message.data.frombytes(pixels.tobytes())
    return message


def arrays(inbox, dtype):
    return {
        (m.header.stamp.sec, m.header.stamp.nanosec): np.frombuffer(m.data, dtype).reshape(
            m.height, m.width, *[3] * (m.encoding == 'rgb8')
        )
        for m in inbox.messages
    }


@pytest.mark.usefixtures('active')
def test_every_output_is_that_of_the_frame_of_its_header(peer, tiny_bundle_of_sizes):
    """Bit by bit, for cameras of several sizes, in bursts, of which some frames are dropped."""
    rng = np.random.default_rng(1)
    kinds: dict[str, Any] = dict.fromkeys(('labels', 'anomaly_mask', 'overlay'), np.uint8)
    kinds['anomaly_score'] = np.float32
    inboxes = {
        (camera, kind): peer.listen(OUT.format(camera, kind), Image)
        for camera in SIZES
        for kind in kinds
    }
    sent: dict[str, dict[tuple[int, int], Any]] = {camera: {} for camera in SIZES}
    publishers = {c: peer.publisher(f'/{c}/image_raw', Image) for c in SIZES}

    def enough():
        for _ in range(int(rng.integers(1, 4))):
            for camera in rng.permutation([*SIZES]):
                pixels = rng.integers(0, 256, (*SIZES[camera], 3), np.uint8)
                stamp = peer.now()
                sent[camera][stamp.sec, stamp.nanosec] = pixels
                publishers[camera].publish(image(pixels, stamp))
        peer.spin(float(rng.uniform(0, 0.05)))
        some_are_dropped = all(
            len(inboxes[camera, 'labels'].messages) < len(sent[camera]) for camera in SIZES
        )
        return some_are_dropped and all(len(inbox.messages) >= 8 for inbox in inboxes.values())

    peer.spin_until(enough)
    with Engine.load(tiny_bundle_of_sizes) as engine:
        pipeline, colors = Pipeline(engine), color_table(engine.classes)
        for camera in SIZES:
            found = {kind: arrays(inboxes[camera, kind], t) for kind, t in kinds.items()}
            for kind, outputs in found.items():
                assert outputs.keys() <= sent[camera].keys()
                for stamp, output in outputs.items():
                    pixels = sent[camera][stamp]
                    (wanted,) = pipeline.run([pixels])
                    mask = anomaly_mask(wanted.anomaly, 0.5)
                    by_kind = {
                        'labels': wanted.labels,
                        'anomaly_score': score_unit(wanted.anomaly),
                        'anomaly_mask': mask,
                        'overlay': draw_overlay(pixels, wanted.labels, mask, colors, ALPHA),
                    }
                    np.testing.assert_array_equal(output, by_kind[kind])
    for inbox in inboxes.values():
        inbox.close()


@pytest.mark.usefixtures('active')
def test_frames_that_give_way_are_received_and_not_lost(peer, filled):
    with peer.listen(OUT.format('front', 'labels'), Image) as inbox:
        publisher = peer.publisher('/front/image_raw', Image)
        peer.ask('/front/image_raw', filled(RED), inbox)
        peer.forget_statuses()
        before = peer.status('camera front', lambda *_: True)
        for _ in range(20):  # more at once than a depth of one takes
            message = filled(RED)
            message.header.stamp = peer.now()
            publisher.publish(message)

        def uncounted(status):
            """One that came after the last watcher had gone, and before the next, is not."""
            dropped = sum(count(status, f'dropped: {cause}') for cause in Drop)
            return count(status, 'received') - dropped - count(status, 'processed')

        def all_counted(status, _):
            come = count(status, 'received') - count(before, 'received')
            return come >= 20 and uncounted(status) <= uncounted(before)

        status = peer.status('camera front', all_counted)
        assert count(status, 'dropped: superseded') > 0
        # A node that is not scheduled for long has lost some in the bursts before.
        assert count(status, 'lost before receipt') == count(before, 'lost before receipt')
        assert count(status, 'time of engine p95 (ms)') >= 0
        assert count(status, 'latency from stamp p99 (ms)') > 0


@pytest.mark.usefixtures('active')
def test_frames_that_a_stopped_node_does_not_receive_are_lost_and_counted(peer, filled, node):
    sent: list[Any] = []

    def send():
        message = filled(RED, height=200, width=300)  # the middleware has room for two
        message.header.stamp = peer.now()
        publisher.publish(message)
        sent.append(message.header.stamp)

    def answered():
        send()
        peer.spin(0.1)
        return sent[-1] in [message.header.stamp for message in inbox.messages]

    def known(status):
        return count(status, 'received') + count(status, 'lost before receipt')

    with peer.listen(OUT.format('rear', 'labels'), Image) as inbox:
        publisher = peer.publisher('/rear/image_raw', Image)
        peer.spin_until(answered)
        peer.forget_statuses()
        before = peer.status('camera rear', lambda *_: True)
        sent_before = len(sent)
        node.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(20):
                send()
        finally:
            node.process.send_signal(signal.SIGCONT)
        peer.spin_until(answered)
        counted = len(sent) - sent_before
        status = peer.status('camera rear', lambda s, _: known(s) - known(before) >= counted)
        assert known(status) - known(before) == counted
        lost = count(status, 'lost before receipt') - count(before, 'lost before receipt')
        assert lost >= 10


def count(status, key):
    return float(next(pair.value for pair in status.values if pair.key == key))


def of_size(data, at, sides):
    return data[:at] + sides + data[at + len(sides) :]


@pytest.mark.usefixtures('active')
def test_files_above_the_bound_are_refused_and_other_cameras_go_on(peer, filled, node):
    picture = np.full((40, 56, 3), RED[::-1], np.uint8)
    png, jpeg = (cv2.imencode(kind, picture)[1].tobytes() for kind in ('.png', '.jpg'))
    sides = (12_000).to_bytes(4, 'big') * 2
    large = [
        of_size(png, 16, sides),
        of_size(jpeg, jpeg.index(b'\xff\xc0') + 5, bytes.fromhex('10e0 1e00')),  # 4320 x 7680
    ]
    inbox = peer.listen(OUT.format('jpeg', 'labels'), Image)
    others = peer.listen(OUT.format('front', 'labels'), Image)
    publisher = peer.publisher('/jpeg/image_raw/compressed', CompressedImage)

    def counted(status, values):
        for data in large:
            message = CompressedImage(format='jpeg', data=data)
            message.header.stamp = peer.now()
            publisher.publish(message)
            peer.ask('/front/image_raw', filled(RED), others)
        return int(values['dropped: oversized']) > 1 and 'oversized' in status.message

    peer.status('camera jpeg', counted)
    assert not inbox.messages
    message = CompressedImage(format='png', data=png)
    peer.ask('/jpeg/image_raw/compressed', message, inbox)
    assert node.log.count('more than 32 million; parameter max_image_pixels') == 1
    for box in (inbox, others):
        box.close()


@pytest.mark.usefixtures('active')
def test_a_second_node_of_the_same_name_is_said(peer, node):
    twin = rclpy.create_node('multishift_perception', context=peer.node.context)
    status = peer.status('engine', lambda s, _: 'have this name' in s.message)
    assert status.level == DiagnosticStatus.WARN
    twin.destroy_node()
    peer.status('engine', lambda s, _: 'have this name' not in s.message)
    assert node.log.count('are named /multishift_perception') == 1


def test_without_a_clock_diagnostics_go_on_and_carry_the_namespace(peer, start_node):
    node = start_node(use_sim_time=True, autostart=False, remaps=['__ns:=/car'])
    status = peer.status('engine', lambda *_: True, node='/car/multishift_perception')
    assert status.level == DiagnosticStatus.WARN
    assert 'no /clock comes' in status.message
    assert node.stop() == 0, node.log


def test_an_engine_call_that_hangs_is_an_error_and_the_node_answers(
    peer, filled, start_node, tiny_bundle, tmp_path, monkeypatch
):
    hang = tmp_path / 'hang'
    monkeypatch.setenv('HANG', str(hang))
    node = start_node(
        Path(__file__).with_name('hanging_node.py'),
        remaps=['__node:=hanging'],
        engine_bundle=tiny_bundle,
        camera_names='[hung]',
        max_frame_age_ms=5000,
    )

    def state(wanted):
        answer = peer.call(GetState, 'get_state', GetState.Request(), node='/hanging')
        return answer.current_state.label == wanted

    def deactivate():
        request = ChangeState.Request()
        request.transition.id = Transition.TRANSITION_DEACTIVATE
        return peer.call(ChangeState, 'change_state', request, node='/hanging').success

    with peer.listen('/hanging/hung/labels', Image) as inbox:
        peer.ask('/hung/image_raw', filled(RED), inbox)
        hang.touch()

        def stuck(status, _):
            send()
            return 'engine call has not returned' in status.message

        publisher = peer.publisher('/hung/image_raw', Image)

        def send():
            message = filled(RED)
            message.header.stamp = peer.now()
            publisher.publish(message)

        send()
        status = peer.status('engine', stuck, node='/hanging')
        assert status.level == DiagnosticStatus.ERROR
        assert not deactivate()
        assert state('active')
        assert 'cannot deactivate: the engine call has not returned' in node.log

        hang.unlink()
        peer.ask('/hung/image_raw', filled(RED), inbox)
        peer.status('engine', lambda s, _: s.level < DiagnosticStatus.ERROR, node='/hanging')

        hang.touch()
        send()
        peer.status('engine', stuck, node='/hanging')
        node.end_under_load(signal.SIGTERM, peer, send)

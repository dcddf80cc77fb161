# SPDX-License-Identifier: Apache-2.0
"""What cameras and drivers send that they should not, over DDS: the node takes it or says so."""

from __future__ import annotations

from itertools import cycle

from builtin_interfaces.msg import Time
import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

RED = (255, 0, 0)
OUT = '/multishift_perception/{}/{}'
FRONT, JPEG = '/front/image_raw', '/jpeg/image_raw/compressed'


@pytest.fixture(scope='module')
def node(start_node, tiny_bundle):
    node = start_node(
        engine_bundle=tiny_bundle,
        camera_names='[front, jpeg]',
        **{'cameras.jpeg.transport': 'compressed'},
        # The machine that runs the tests may be slow.
        max_frame_age_ms=5000,
    )
    yield node
    assert node.is_alive, node.log
    assert node.stop() == 0, node.log
    assert 'Traceback' not in node.log


@pytest.fixture(autouse=True, scope='module')
def active(node, peer):
    peer.status('engine', lambda _, values: values['state'] == 'active')


def count(values, cause):
    return int(values[f'dropped: {cause}'])


def send_until_counted(peer, topic, messages, cause):
    """Send bad frames in turn until as many have been counted."""
    camera = f'camera {topic.split("/")[1]}'
    status = peer.status(camera, lambda *_: True)
    before = count({pair.key: pair.value for pair in status.values}, cause)
    publisher = peer.publisher(topic, type(messages[0]))
    turn = cycle(messages)

    def counted(_, values):
        message = next(turn)
        message.header.stamp = peer.now()
        publisher.publish(message)
        peer.spin(0.1)
        return count(values, cause) >= before + len(messages)

    peer.status(camera, counted)


def changed(message, **fields):
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def test_frames_whose_fields_contradict_each_other(peer, filled):
    bad = [
        changed(filled(RED), **fields)
        for fields in (
            {'data': filled(RED).data[:-1]},
            {'data': bytes(48 * 64 * 3 + 1)},
            {'data': b''},
            {'height': 0},
            {'step': 64 * 3 - 1},
            {'encoding': 'yuv422', 'width': 63, 'step': 126},
        )
    ]
    with peer.listen(OUT.format('front', 'labels'), Image) as inbox:
        send_until_counted(peer, FRONT, bad, 'broken')
        assert not inbox.messages
        peer.ask(FRONT, filled(RED), inbox)


def test_a_size_that_no_image_has_is_oversized(peer, filled):
    bad = [changed(filled(RED), width=2**31), changed(filled(RED), height=2**32 - 1)]
    with peer.listen(OUT.format('front', 'labels'), Image) as inbox:
        send_until_counted(peer, FRONT, bad, 'oversized')
        peer.ask(FRONT, filled(RED), inbox)


def test_encodings_that_nothing_decodes_are_named(peer, filled, node):
    encodings = ('8UC7', '', '8UC3')
    bad = [changed(filled(RED), encoding=encoding) for encoding in encodings]
    with peer.listen(OUT.format('front', 'labels'), Image) as inbox:
        send_until_counted(peer, FRONT, bad, 'encoding')

        def are_named():
            """One may give way to the next, and another is counted twice."""
            for message in bad:
                message.header.stamp = peer.now()
                peer.publisher(FRONT, Image).publish(message)
                peer.spin(0.05)
            return all(f"encoding '{encoding}'" in node.log for encoding in encodings)

        peer.spin_until(are_named)
        peer.ask(FRONT, filled(RED), inbox)
    for encoding in encodings:
        assert node.log.count(f"encoding '{encoding}' is none of") == 1


@pytest.mark.parametrize('size', [(1, 1), (2, 4000), (97, 131)])
def test_the_size_may_change_with_each_frame(peer, filled, size):
    with peer.listen(OUT.format('front', 'labels'), Image) as inbox:
        for height, width in (size, (64, 96), size):
            labels = peer.ask(FRONT, filled(RED, height=height, width=width), inbox)
            assert (labels.height, labels.width, labels.step) == (height, width, width)
            assert len(labels.data) == height * width


def test_camera_info_of_another_size_is_scaled_and_said(peer, filled, node):
    info = CameraInfo(height=96, width=128)
    info.k = [120.0, 0.0, 64.0, 0.0, 120.0, 48.0, 0.0, 0.0, 1.0]
    with peer.listen(OUT.format('front', 'camera_info'), CameraInfo) as inbox:
        found = peer.ask(FRONT, filled(RED), inbox, info)
    assert (found.height, found.width) == (48, 64)
    np.testing.assert_allclose(found.k, [60, 0, 32, 0, 60, 24, 0, 0, 1])
    assert node.log.count('camera_info is of 128 x 96 pixels, a frame of 64 x 48: scaled') == 1


def test_stamps_that_are_odd_and_can_be_right(peer, filled):
    """More than 1e9 nanoseconds, and 0.9 s ahead: processed, and the header is as it was."""
    message, sent = filled(RED), []
    with peer.listen(OUT.format('front', 'labels'), Image) as inbox:

        def processed():
            now = peer.now()
            for stamp in (
                Time(sec=now.sec - 3, nanosec=now.nanosec + 3 * 10**9),
                Time(sec=now.sec, nanosec=now.nanosec + 9 * 10**8),
            ):
                message.header.stamp = stamp
                sent.append(stamp)
                peer.publisher(FRONT, Image).publish(message)
                peer.spin(0.1)
            stamps = [m.header.stamp for m in inbox.messages]
            return {0, 1} == {sent.index(stamp) % 2 for stamp in stamps}

        peer.spin_until(processed)
        peer.forget_statuses()
        peer.status('camera front', lambda _, values: values['stamps'] == 'plausible')
    assert all(m.header.frame_id == 'front_optical' for m in inbox.messages)


@pytest.mark.parametrize(
    ('seconds', 'fault'),
    [
        (3600, ' ahead of '),
        (-3600, ' behind '),
        (-30, 'stale'),
        (2**31 - 1, ' ahead of '),
        (-(2**31), ' behind '),
    ],
)
def test_stamps_that_cannot_be_right(peer, filled, seconds, fault):
    """Extremes stand for themselves, others for what is added to the time now."""
    message, sent = filled(RED), []
    with peer.listen(OUT.format('front', 'labels'), Image) as inbox:

        def judged(_, values):
            now = peer.now()
            sec = seconds if abs(seconds) > 10**9 else now.sec + seconds
            message.header.stamp = Time(sec=sec, nanosec=now.nanosec)
            sent.append(message.header.stamp)
            peer.publisher(FRONT, Image).publish(message)
            peer.spin(0.1)
            return count(values, 'stale') if fault == 'stale' else fault in values['stamps']

        peer.status('camera front', judged)
        assert all(output.header.stamp in sent for output in inbox.messages)
        peer.ask(FRONT, filled(RED), inbox)


def test_each_kind_of_stamp_that_cannot_be_right_is_named_once(node):
    """After the cases above, in which both came many times."""
    for side in ('ahead of', 'behind'):
        (line,) = [line for line in node.log.splitlines() if f"s {side} the node's" in line]
        assert 'camera front: the header stamps are of another clock' in line


def test_the_same_stamp_twice_is_no_fault(peer, filled):
    message = filled(RED)
    with peer.listen(OUT.format('front', 'labels'), Image) as inbox:
        publisher = peer.publisher(FRONT, Image)
        message.header.stamp = peer.now()

        def both():
            publisher.publish(message)
            peer.spin(0.2)
            return len(inbox.messages) >= 2

        peer.spin_until(both)
    assert all(output.header.stamp == message.header.stamp for output in inbox.messages)


def picture():
    noise = np.random.default_rng(0).integers(0, 40, (240, 320, 3))
    return (np.full((240, 320, 3), RED[::-1]) - noise).clip(0, 255).astype(np.uint8)


def compressed(data):
    return CompressedImage(format='bgr8; jpeg compressed bgr8', data=bytes(data))


def test_damaged_jpegs_are_counted_and_padded_ones_are_decoded(peer):
    whole = cv2.imencode('.jpg', picture())[1].tobytes()
    other = cv2.imencode('.jpg', picture()[::-1])[1].tobytes()
    middle = len(whole) // 2
    flipped = bytearray(whole)
    for at in np.linspace(700, len(whole) - 100, 20).astype(int):
        flipped[at] ^= 0x5A
    bad = [
        compressed(flipped),
        compressed(whole[:middle] + whole[middle + 512 :]),
        compressed(whole[:middle] + b'\xff\xd9'),
        compressed(whole[:middle] + other[middle:]),
        compressed(whole[:middle]),
        compressed(b'\xff\xd8\xff' + bytes(500)),
        compressed(b'\xff\xd8\xff' + np.random.default_rng(0).bytes(5000)),
    ]
    with peer.listen(OUT.format('jpeg', 'labels'), Image) as inbox:
        send_until_counted(peer, JPEG, bad, 'broken')
        assert not inbox.messages
        peer.ask(JPEG, compressed(whole + bytes(8192)), inbox)


def test_bytes_that_are_no_file_are_counted(peer):
    bad = [compressed(np.random.default_rng(0).bytes(5000)), compressed(b'')]
    with peer.listen(OUT.format('jpeg', 'labels'), Image):
        send_until_counted(peer, JPEG, bad, 'encoding')


def test_a_png_of_16_bits_is_decoded(peer):
    data = cv2.imencode('.png', picture().astype(np.uint16) << 8)[1]
    with peer.listen(OUT.format('jpeg', 'labels'), Image) as inbox:
        labels = peer.ask(JPEG, CompressedImage(format='png', data=data.tobytes()), inbox)
    assert (labels.height, labels.width) == (240, 320)

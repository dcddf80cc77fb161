# SPDX-License-Identifier: Apache-2.0
"""Topics by namespace, remap and relative name, over DDS: images, calibration, statuses."""

from __future__ import annotations

import signal

import cv2
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
from rcl_interfaces.msg import Log
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

RED = (255, 0, 0)
NODE = '/car/multishift_perception'


@pytest.fixture(scope='module')
def node(start_node, tiny_bundle):
    node = start_node(
        remaps=[
            '__ns:=/car',
            '/front/image_raw:=/sensing/front/picture',
            '/rear/image_raw:=/sensing/rear/picture',
            '/rear/camera_info:=/calibrated/rear',
        ],
        engine_bundle=tiny_bundle,
        camera_names='[front, rear, left, jpeg]',
        **{
            'cameras.left.image_topic': 'left/image_raw',
            'cameras.jpeg.image_topic': '/jpeg/image/compressed',
            'cameras.jpeg.transport': 'compressed',
        },
        # The machine that runs the tests may be slow.
        max_frame_age_ms=5000,
    )
    yield node
    assert node.stop() == 0, node.log


@pytest.fixture(autouse=True, scope='module')
def active(node, peer):
    peer.status('engine', lambda _, values: values['state'] == 'active', node=NODE)


def calibration(focal_length):
    info = CameraInfo(height=48, width=64)
    info.k = [focal_length, 0.0, 32.0, 0.0, focal_length, 24.0, 0.0, 0.0, 1.0]
    return info


def test_its_log_reaches_rosout_under_its_full_name(peer):
    with peer.listen('/rosout', Log) as inbox:

        def names():
            for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
                assert peer.change_state(transition, NODE)
            return {message.name for message in inbox.messages if message.msg == 'active'}

        assert peer.spin_until(names) == {'car.multishift_perception'}


def picture():
    encoded, data = cv2.imencode('.png', np.full((48, 64, 3), RED[::-1], np.uint8))
    assert encoded
    return CompressedImage(format='bgr8; png compressed bgr8', data=data.tobytes())


@pytest.mark.parametrize(
    ('camera', 'image', 'info'),
    [
        ('front', '/sensing/front/picture', '/sensing/front/camera_info'),
        ('rear', '/sensing/rear/picture', '/calibrated/rear'),
        ('left', '/car/left/image_raw', '/car/left/camera_info'),
        ('jpeg', '/jpeg/image/compressed', '/jpeg/camera_info'),
    ],
)
def test_the_calibration_follows_the_resolved_name_of_the_image(peer, filled, camera, image, info):
    message = picture() if image.endswith('compressed') else filled(RED)
    infos = peer.listen(f'{NODE}/{camera}/camera_info', CameraInfo)
    with infos, peer.listen(f'{NODE}/{camera}/labels', Image) as labels:
        beside = peer.publisher(info, CameraInfo)

        def calibrated():
            beside.publish(calibration(60.0))
            return infos.messages or (peer.ask(image, message, labels) and None)

        (found, *_) = peer.spin_until(calibrated)
    assert found.k[0] == 60.0
    status = peer.status(f'camera {camera}', lambda s, _: s.hardware_id, node=NODE)
    assert status.hardware_id == image


def test_a_compressed_mosaic_has_the_colour_of_a_raw_one(peer, filled):
    """Red as rggb, where grey would be of all colours alike."""
    mosaic = np.tile(np.array([[255, 0], [0, 0]], np.uint8), (24, 32))
    encoded, data = cv2.imencode('.png', mosaic)
    assert encoded
    message = CompressedImage(format='bayer_rggb8; png compressed bayer_rggb8')
    message.data = data.tobytes()
    with peer.listen(f'{NODE}/jpeg/overlay', Image) as inbox:
        packed = peer.ask('/jpeg/image/compressed', message, inbox)
    raw = Image(height=48, width=64, step=64, encoding='bayer_rggb8', data=mosaic.tobytes())
    with peer.listen(f'{NODE}/front/overlay', Image) as inbox:
        assert peer.ask('/sensing/front/picture', raw, inbox).data == packed.data
    red, green, blue = np.reshape(packed.data, (48, 64, 3))[24, 32].tolist()
    assert red > green
    assert red > blue


def test_statuses_carry_the_namespace(peer):
    names = {name for name in peer.statuses if name.startswith(NODE[1:])}
    cameras = {f'{NODE[1:]}: camera {c}' for c in ('front', 'rear', 'left', 'jpeg')}
    assert names == {f'{NODE[1:]}: engine', *cameras}


def test_sigint_under_load_ends_it_in_peace(peer, filled, node):
    message = filled(RED)
    with peer.listen(f'{NODE}/left/labels', Image) as inbox:
        peer.ask('/car/left/image_raw', message, inbox)
        publisher = peer.publisher('/car/left/image_raw', Image)

        def send():
            message.header.stamp = peer.now()
            publisher.publish(message)

        node.end_under_load(signal.SIGINT, peer, send)

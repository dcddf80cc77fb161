# SPDX-License-Identifier: Apache-2.0
"""One node with three cameras, over DDS: what goes in and what comes out."""

from __future__ import annotations

from builtin_interfaces.msg import Time
import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
FRONT = '/front/image_raw'
OUT = '/multishift_perception/front'
TAKEN_BY_NAV2 = 'labels', 'confidence'


@pytest.fixture(scope='module')
def node(start_node, tiny_bundle):
    node = start_node(
        engine_bundle=tiny_bundle,
        camera_names='[front, left, jpeg, rear, side, typed]',
        **{
            'cameras.left.image_topic': '/sensing/left/image',
            'cameras.jpeg.transport': 'compressed',
            'cameras.rear.image_topic': '/sensing/rear/image',
            'qos_overrides./side/image_raw.subscription.reliability': 'reliable',
            'qos_overrides./sdie/image_raw.subscription.reliability': 'reliable',
        },
        # The machine that runs the tests may be slow.
        max_frame_age_ms=2000,
    )
    yield node
    assert node.is_alive, node.log
    assert node.stop() == 0, node.log


@pytest.fixture(autouse=True, scope='module')
def active(node, peer):
    peer.status('engine', lambda _, values: values['state'] == 'active')


def pixels(message, dtype=np.uint8, channels=1):
    data = np.frombuffer(message.data, dtype)
    shape = (message.height, message.width, channels)
    assert message.step == message.width * channels * np.dtype(dtype).itemsize
    return data.reshape(shape if channels > 1 else shape[:2])


@pytest.mark.parametrize(('color', 'label'), [(RED, 0), (BLUE, 1), (GREEN, 2)])
def test_labels_are_of_the_camera_size_and_carry_the_header(peer, filled, color, label):
    with peer.listen(f'{OUT}/labels', Image) as inbox:
        labels = peer.ask(FRONT, filled(color), inbox)
    assert labels.header.frame_id == 'front_optical'
    assert labels.encoding == 'mono8'
    assert (labels.height, labels.width) == (48, 64)
    assert (pixels(labels) == label).all()


def as_encoding(message, encoding):
    rgb = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
    encoded = {
        'bgr8': rgb[..., ::-1],
        'bgra8': cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA),
        'mono8': rgb[..., :1],
        'mono16': rgb[..., :1].astype('>u2') << 8,
        'bayer_rggb8': np.tile([[[0], [0]], [[0], [255]]], (24, 32, 1)).astype(np.uint8),
    }[encoding]
    rows = np.ascontiguousarray(encoded).view(np.uint8).reshape(message.height, -1)
    padded = np.pad(rows, ((0, 0), (0, 16)))
    message.encoding, message.step = encoding, padded.shape[1]
    message.is_bigendian = encoding == 'mono16'
    message.data = padded.tobytes()
    return message


@pytest.mark.parametrize(
    ('encoding', 'color', 'label'),
    [
        ('bgr8', BLUE, 1),
        ('bgra8', GREEN, 2),
        ('mono8', WHITE, 0),
        ('mono16', WHITE, 0),
        ('bayer_rggb8', BLUE, 1),
    ],
)
def test_other_encodings_with_padded_rows(peer, filled, encoding, color, label):
    with peer.listen(f'{OUT}/labels', Image) as inbox:
        labels = peer.ask(FRONT, as_encoding(filled(color), encoding), inbox)
    assert (pixels(labels)[4:-4, 4:-4] == label).all()


def test_confidence_is_the_probability_of_the_label(peer, filled):
    with peer.listen(f'{OUT}/confidence', Image) as inbox:
        found = peer.ask(FRONT, filled(RED), inbox)
        assert (found.header.frame_id, found.encoding) == ('front_optical', 'mono8')
        # Of three classes, whose logits are the colours.
        assert (pixels(found) == round(255 * np.e / (np.e + 2))).all()
        assert (pixels(peer.ask(FRONT, filled(WHITE), inbox)) == 85).all()


def test_labels_and_confidence_are_as_the_segmentation_layer_of_nav2_takes_them(peer, filled):
    """Subscribed best effort, matched by exact stamps, read as ``data[row * width + column]``."""
    listen = {name: peer.listen(f'{OUT}/{name}', Image, reliable=False) for name in TAKEN_BY_NAV2}
    with listen['labels'] as labels, listen['confidence'] as confidence:

        def both():
            """What is seen late, or is lost, has no partner."""
            peer.ask(FRONT, filled(RED), labels)
            pairs = ((a, b) for a in labels.messages for b in confidence.messages)
            return next((pair for pair in pairs if pair[0].header == pair[1].header), None)

        found = peer.spin_until(both)
    for image in found:
        assert (image.encoding, image.height, image.width, image.step) == ('mono8', 48, 64, 64)
        assert len(image.data) == 48 * 64


def test_both_shifts_are_told_of_a_frame(peer, filled):
    frame = filled(RED)
    with peer.listen(f'{OUT}/shifts', DiagnosticArray) as inbox:
        found = peer.ask(FRONT, frame, inbox)
        # It is forgotten once nobody watches.
        told = peer.status('camera front', lambda _, values: values['covariate shift'])
    assert 'look as no training image' not in told.message
    assert found.header.frame_id == 'front_optical'
    (status,) = found.status
    values = {pair.key: float(pair.value) for pair in status.values}
    assert 0 < values['covariate shift'] < 1
    assert values['semantic shift'] == 0


@pytest.mark.parametrize('extension', ['.jpg', '.png'])
def test_compressed_transport(peer, extension):
    _, data = cv2.imencode(extension, np.full((40, 56, 3), BLUE[::-1], np.uint8))
    message = CompressedImage(format=extension[1:])
    message.header.frame_id = 'jpeg_optical'
    message.data = data.tobytes()
    with peer.listen('/multishift_perception/jpeg/labels', Image) as inbox:
        labels = peer.ask('/jpeg/image_raw/compressed', message, inbox)
    assert labels.header.frame_id == 'jpeg_optical'
    assert (labels.height, labels.width) == (40, 56)
    assert (pixels(labels) == 1).all()


@pytest.mark.parametrize(('color', 'mask', 'score'), [(WHITE, 255, 1.0), (BLACK, 0, 0.0)])
def test_mask_and_score(peer, filled, color, mask, score):
    with peer.listen(f'{OUT}/anomaly_mask', Image) as masks:
        with peer.listen(f'{OUT}/anomaly_score', Image) as scores:
            found = peer.ask(FRONT, filled(color), scores)
            found_mask = peer.ask(FRONT, filled(color), masks)
    assert found.encoding == '32FC1'
    np.testing.assert_allclose(pixels(found, np.float32), score, atol=0.01)
    assert found_mask.encoding == 'mono8'
    assert (pixels(found_mask) == mask).all()


def test_overlay_blends_the_class_colour(peer, filled):
    with peer.listen(f'{OUT}/overlay', Image) as inbox:
        overlay = peer.ask(FRONT, filled(GREEN), inbox)
    with peer.listen(f'{OUT}/overlay/compressed', CompressedImage) as inbox:
        compressed = peer.ask(FRONT, filled(GREEN), inbox)
    wanted = np.array([0, 128, 71])  # green and the class's (0, 0, 142), half and half
    assert overlay.encoding == 'rgb8'
    np.testing.assert_allclose(pixels(overlay, channels=3).astype(int) - wanted, 0, atol=1)
    assert 'jpeg' in compressed.format
    bgr = cv2.imdecode(np.frombuffer(compressed.data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(bgr[..., ::-1].astype(int) - wanted, 0, atol=6)


def test_threshold_may_change_while_running(peer, filled):
    grey = filled((192, 192, 192))  # calibrated 0.75
    with peer.listen(f'{OUT}/anomaly_mask', Image) as inbox:
        assert pixels(peer.ask(FRONT, grey, inbox)).all()
        assert peer.set_parameter('anomaly_threshold', 0.9).successful
        assert not pixels(peer.ask(FRONT, grey, inbox)).any()
        assert peer.set_parameter('anomaly_threshold', 0.5).successful


@pytest.mark.parametrize(
    ('name', 'value', 'said'),
    [
        ('anomaly_threshold', 1.5, 'out of range Min: 0.0, Max: 1.0'),
        ('anomaly_threshold', float('nan'), 'out of range'),
        ('anomaly_threshold', 'high', 'Wrong parameter type'),
        ('max_frame_age_ms', -1, 'out of range'),
        ('camera_names', ['rear'], 'read-only'),
        ('engine_bundle', '/elsewhere', 'only while the node is unconfigured'),
        ('output_size', 'huge', 'only while the node is unconfigured'),
    ],
)
def test_bad_values_are_refused_with_a_reason(peer, name, value, said):
    result = peer.set_parameter(name, value)
    assert not result.successful
    assert said in result.reason


def test_whole_numbers_pass_for_floats(peer):
    assert peer.set_parameter('overlay_alpha', 1).successful
    assert peer.set_parameter('overlay_alpha', 0.5).successful


@pytest.mark.parametrize('reliable', [True, False])
def test_outputs_match_either_reliability(peer, filled, reliable):
    with peer.listen(f'{OUT}/labels', Image, reliable=reliable) as inbox:
        peer.ask(FRONT, filled(RED), inbox)


def test_camera_info_has_the_stamp_of_the_frame(peer, filled):
    info = CameraInfo(height=48, width=64)
    info.k = [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]
    with peer.listen(f'{OUT}/camera_info', CameraInfo) as inbox:
        found = peer.ask(FRONT, filled(RED), inbox, info)
    assert found.header.frame_id == 'front_optical'
    assert (found.height, found.width) == (48, 64)
    np.testing.assert_array_equal(found.k, info.k)


def test_inputs_are_subscribed_only_while_watched(peer, filled):
    topic = '/sensing/left/image'
    left = '/multishift_perception/left/labels'
    peer.spin_until(lambda: peer.node.count_publishers(left))
    assert peer.node.count_subscribers(topic) == 0
    with peer.listen(left, Image) as inbox:
        peer.ask(topic, filled(BLUE), inbox)
    peer.spin_until(lambda: peer.node.count_subscribers(topic) == 0)


def test_publish_always_needs_no_watcher(peer):
    peer.spin_until(lambda: peer.node.count_subscribers(FRONT) == 0)
    assert peer.set_parameter('publish_always', True).successful
    peer.spin_until(lambda: peer.node.count_subscribers(FRONT))
    assert peer.set_parameter('publish_always', False).successful
    peer.spin_until(lambda: peer.node.count_subscribers(FRONT) == 0)


def test_a_subscriber_that_cannot_match_is_named(node, peer):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    late = peer.node.create_subscription(Image, f'{OUT}/labels', lambda _: None, latched)
    peer.spin_until(lambda: f'subscriber of {OUT}/labels gets nothing: its durability' in node.log)
    peer.node.destroy_subscription(late)


def test_a_qos_override_of_no_topic_is_named(node):
    name = 'qos_overrides./sdie/image_raw.subscription.reliability'
    assert node.log.count(f'parameter {name} fits no topic') == 1


def test_a_broken_frame_is_counted_named_and_survived(peer, filled, node):
    bad = filled(RED)
    bad.data = bad.data[:100]
    strange = filled(RED)
    strange.encoding = '32FC1'
    with peer.listen(f'{OUT}/labels', Image) as inbox:
        publisher = peer.publisher(FRONT, Image)

        def counted(_, values):
            for message in (bad, strange):
                message.header.stamp = peer.now()
                publisher.publish(message)
                peer.spin(0.05)
            return values['dropped: broken'] != '0' and values['dropped: encoding'] != '0'

        status = peer.status('camera front', counted)
        peer.ask(FRONT, filled(RED), inbox)
    assert status.level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
    assert node.log.count('data has 100 bytes') == 1
    assert node.log.count("encoding '32FC1'") == 1


def send(peer, message, stamp):
    message.header.stamp = stamp
    peer.publisher(FRONT, Image).publish(message)


def test_a_stale_frame_is_dropped_and_counted(peer, filled):
    with peer.listen(f'{OUT}/labels', Image) as inbox:

        def counted(_, values):
            now = peer.now()
            send(peer, filled(RED), Time(sec=now.sec - 10, nanosec=now.nanosec))
            return values['dropped: stale'] != '0'

        peer.status('camera front', counted)
        assert not inbox.messages


def test_a_frame_of_another_clock_is_dropped_and_flagged(peer, filled):
    with peer.listen(f'{OUT}/labels', Image) as inbox:

        def flagged(_, values):
            send(peer, filled(RED), Time(sec=1000))
            return values['dropped: clock'] != '0' and 'another clock' in values['stamps']

        peer.status('camera front', flagged)
        assert not inbox.messages


def test_a_frame_without_stamp_is_processed_and_flagged(peer, filled):
    with peer.listen(f'{OUT}/labels', Image) as inbox:

        def flagged(_, values):
            send(peer, filled(RED), Time())
            return 'are zero' in values['stamps']

        peer.status('camera front', flagged)
        peer.spin_until(lambda: inbox.messages)
    assert inbox.messages[0].header.stamp == Time()


def test_diagnostics_of_a_healthy_camera_and_engine(peer, filled, tiny_bundle):
    with peer.listen(f'{OUT}/labels', Image) as inbox:

        def healthy(status, values):
            peer.ask(FRONT, filled(RED), inbox)
            return status.level == DiagnosticStatus.OK and float(values['processed rate (Hz)']) > 1

        camera = peer.status('camera front', healthy)
        engine = peer.status('engine', lambda _, values: values['call time p50 (ms)'])
    values = {pair.key: pair.value for pair in camera.values}
    assert float(values['latency from stamp p50 (ms)']) > 0
    assert float(values['latency from receipt p99 (ms)']) > 0
    assert camera.hardware_id == FRONT
    values = {pair.key: pair.value for pair in engine.values}
    assert engine.level == DiagnosticStatus.OK
    assert values['bundle'] == tiny_bundle.name
    assert len(values['sha256']) == 64
    assert values['backend'] == 'openvino'
    assert float(values['frames per call']) == 1
    assert int(values['calls']) > 0


def test_a_topic_without_publisher_is_a_warning_that_names_others(peer):
    other = peer.node.create_publisher(Image, '/sensing/rear/image_rect', 1)
    with peer.listen('/multishift_perception/rear/labels', Image):
        status = peer.status('camera rear', lambda s, _: s.level == DiagnosticStatus.WARN)
    assert 'no publisher on /sensing/rear/image;' in status.message
    assert '/sensing/rear/image_rect' in status.message
    peer.node.destroy_publisher(other)


def silence(peer, camera):
    with peer.listen(f'/multishift_perception/{camera}/labels', Image):
        status = peer.status(f'camera {camera}', lambda s, _: 'likely cause' in s.message)
    assert status.level == DiagnosticStatus.WARN
    return status.message


def test_a_silent_publisher_is_a_warning_with_the_likely_cause(peer):
    silent = peer.node.create_publisher(Image, '/sensing/rear/image', 1)
    assert 'shared memory' in silence(peer, 'rear')
    peer.node.destroy_publisher(silent)


def test_a_qos_mismatch_is_recognised(peer):
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    silent = peer.node.create_publisher(Image, '/side/image_raw', best_effort)
    assert 'QoS mismatch' in silence(peer, 'side')
    peer.node.destroy_publisher(silent)


def test_a_topic_of_another_type_is_recognised(peer):
    silent = peer.node.create_publisher(CompressedImage, '/typed/image_raw', 1)
    assert 'see parameter transport' in silence(peer, 'typed')
    peer.node.destroy_publisher(silent)

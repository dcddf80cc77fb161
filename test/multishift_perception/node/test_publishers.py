# SPDX-License-Identifier: Apache-2.0
"""What a camera's outputs are, the latched class names among them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rclpy.clock import ROSClock
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from multishift_perception.classes import CITYSCAPES, SemanticClass
from multishift_perception.images.picture import Picture
from multishift_perception.node import publishers
from multishift_perception.node.rcl import OutgoingImage
from multishift_perception.outputs import Output
from multishift_perception.pipeline import FrameOutput


@pytest.fixture
def vision(monkeypatch, vision_msgs):
    for name in ('LabelInfo', 'VisionClass'):
        monkeypatch.setattr(publishers, name, getattr(vision_msgs, name), raising=False)


class FakeNode:
    def __init__(self):
        self.sent = {}
        self.qos = {}
        self.is_active = True

    def create_lifecycle_publisher(self, kind, topic, qos, **_):
        self.qos[topic] = qos
        sent = self.sent.setdefault(topic, [])
        return SimpleNamespace(
            publish=sent.append, get_subscription_count=lambda: 0, is_activated=self.is_active
        )

    def get_clock(self):
        return ROSClock()


@pytest.fixture
def node(monkeypatch):
    monkeypatch.setattr(publishers, 'MismatchedReaders', lambda _: SimpleNamespace())
    return FakeNode()


@pytest.mark.usefixtures('vision')
def test_label_info_is_latched_and_names_the_classes(node):
    outputs = publishers.CameraOutputs(node, 'front', CITYSCAPES)
    outputs.publish_label_info(cast(Any, SimpleNamespace(anomaly_threshold=0.7)))
    [message] = node.sent['~/front/label_info']
    assert message.threshold == 0.7
    assert [(c.class_id, c.class_name) for c in message.class_map][:2] == [
        (0, 'road'),
        (1, 'sidewalk'),
    ]
    assert len(message.class_map) == 19
    durabilities = {topic: qos.durability for topic, qos in node.qos.items()}
    assert durabilities.pop('~/front/label_info') == DurabilityPolicy.TRANSIENT_LOCAL
    assert set(durabilities.values()) == {DurabilityPolicy.VOLATILE}


@pytest.mark.usefixtures('vision')
def test_label_info_names_classes_of_ones_own(node):
    names = ('ground', 'crop', 'tractor', 'sky')
    own = tuple(SemanticClass(name, (9, 9, 9)) for name in names)
    outputs = publishers.CameraOutputs(node, 'front', own)
    outputs.publish_label_info(cast(Any, SimpleNamespace(anomaly_threshold=0.5)))
    [message] = node.sent['~/front/label_info']
    found = [(known.class_id, known.class_name) for known in message.class_map]
    assert found == list(enumerate(names))


def test_without_vision_msgs_there_is_no_label_info(node, monkeypatch):
    monkeypatch.setattr(publishers, 'LabelInfo', None)
    outputs = publishers.CameraOutputs(node, 'front', CITYSCAPES)
    outputs.publish_label_info(cast(Any, SimpleNamespace(anomaly_threshold=0.7)))
    assert '~/front/label_info' not in node.sent


def test_nothing_is_wanted_that_nobody_watches(node):
    outputs = publishers.CameraOutputs(node, 'front', CITYSCAPES)
    assert outputs.wanted(False) == frozenset()
    assert Output.OVERLAY_JPEG in outputs.wanted(True)
    assert {output.topic_of('front') for output in outputs.wanted(True)} == set(node.sent)


def publish_all(node, monkeypatch, wanted):
    """Publish a frame; return what was sent by topic: the message's type, and its encoding."""

    def publish(image, publisher, header, pixels):
        publisher.publish(Image(header=header, encoding=image.encoding))

    monkeypatch.setattr(OutgoingImage, 'publish', publish)
    outputs = publishers.CameraOutputs(node, 'front', CITYSCAPES, tells_confidence=True)
    settings: Any = SimpleNamespace(anomaly_threshold=0.5, min_anomaly_area=0, overlay_alpha=0.5)
    anomaly = np.full((4, 6), 255, np.uint8)
    score = anomaly.astype(np.float32)
    said = FrameOutput(anomaly * 0, anomaly, score, (8, 12), confidence=anomaly)
    frame = np.zeros((8, 12, 3), np.uint8)
    outputs.publish(wanted, Header(frame_id='front'), Picture(frame), said, settings)
    return {
        topic: [(type(m).__name__, getattr(m, 'encoding', '')) for m in messages]
        for topic, messages in node.sent.items()
        if messages
    }


@pytest.mark.parametrize('left_out', [frozenset(), {Output.LABELS}, {Output.ANOMALY_MASK}])
def test_every_image_that_is_wanted_is_sent_in_its_encoding(node, monkeypatch, left_out):
    wanted = frozenset(output for output in Output if output.is_image) - left_out
    assert publish_all(node, monkeypatch, wanted) == {
        output.topic_of('front'): [(output.kind.rpartition('/')[2], output.encoding)]
        for output in wanted
    }


@pytest.mark.parametrize('output', [output for output in Output if output.is_image])
def test_an_output_is_made_of_what_is_asked_of_the_engine_for_it(output):
    labels, anomaly, confidence = np.random.default_rng(0).integers(0, 256, (3, 4, 6), np.uint8)
    settings: Any = SimpleNamespace(anomaly_threshold=0.5, min_anomaly_area=0, overlay_alpha=0.5)
    score = anomaly.astype(np.float32)
    whole = FrameOutput(labels, anomaly, score, (8, 12), confidence=confidence)
    parts = {part: getattr(whole, part) for part in publishers.parts_of([output])}
    asked = FrameOutput(
        parts.get('labels'),
        parts.get('anomaly'),
        parts.get('score'),
        (8, 12),
        engine_labels=parts.get('engine_labels'),
        confidence=parts.get('confidence'),
    )
    picture = Picture(np.zeros((8, 12, 3), np.uint8))
    colors = np.arange(768, dtype=np.uint8).reshape(256, 3)
    found, wanted = (
        publishers._FrameImages(picture, said, settings, colors, lambda *_: None).pixels(output)
        for said in (asked, whole)
    )
    assert np.array_equal(found, wanted)


def test_the_calibration_asks_nothing_of_the_engine():
    assert publishers.parts_of([Output.CALIBRATION]) == frozenset()
    assert publishers.parts_of([Output.CALIBRATION, Output.LABELS]) == {'labels'}


def test_the_shifts_carry_the_header_and_both_numbers(node):
    outputs = publishers.CameraOutputs(node, 'front', CITYSCAPES, tells_looks=True)
    settings: Any = SimpleNamespace(anomaly_threshold=0.5, min_anomaly_area=0, overlay_alpha=0.5)
    road = np.zeros((4, 6), np.uint8)
    anomaly = road.copy()
    anomaly[1:3, 2:5] = 200
    said = FrameOutput(road, anomaly, road.astype(np.float32), (8, 12), covariate_shift=1.25)
    header = Header(frame_id='front_optical')
    header.stamp.sec, header.stamp.nanosec = 12, 34
    frame = Picture(np.zeros((8, 12, 3), np.uint8))
    outputs.publish(frozenset({Output.SHIFTS, Output.DOMAIN_SHIFT}), header, frame, said, settings)
    [number] = node.sent['~/front/domain_shift']
    assert number.data == 1.25
    [message] = node.sent['~/front/shifts']
    assert message.header == header
    [status] = message.status
    assert status.level == DiagnosticStatus.WARN
    assert {pair.key: float(pair.value) for pair in status.values} == {
        'covariate shift': 1.25,
        'semantic shift': 0.25,
    }
    assert {topic for topic, sent in node.sent.items() if sent} == {
        '~/front/domain_shift',
        '~/front/shifts',
    }


@pytest.mark.parametrize(
    ('told', 'output'),
    [('tells_looks', Output.DOMAIN_SHIFT), ('tells_confidence', Output.CONFIDENCE)],
)
def test_what_the_engine_does_not_tell_is_not_offered(node, told, output):
    outputs = publishers.CameraOutputs(node, 'front', CITYSCAPES)
    assert output.topic_of('front') not in node.sent
    assert output not in outputs.wanted(True)
    tells: Any = {told: True}
    publishers.CameraOutputs(node, 'left', CITYSCAPES, **tells)
    assert output.topic_of('left') in node.sent


def test_nothing_is_sent_by_a_publisher_that_is_not_active(node, monkeypatch):
    node.is_active = False
    assert publish_all(node, monkeypatch, frozenset({Output.LABELS, Output.OVERLAY})) == {}

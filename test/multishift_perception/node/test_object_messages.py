# SPDX-License-Identifier: Apache-2.0
"""Objects as messages."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from multishift_perception.bags.types import TYPES
from multishift_perception.classes import CITYSCAPES
from multishift_perception.ground_plane import Calibration, Mounting, find_on_ground
from multishift_perception.images.picture import Picture
from multishift_perception.message_types import DETECTIONS, LABEL_INFO
from multishift_perception.node import object_messages, publishers
from multishift_perception.objects import AnomalousObject
from multishift_perception.outputs import Output
from multishift_perception.pipeline import FrameOutput


@pytest.fixture
def vision(monkeypatch: pytest.MonkeyPatch, vision_msgs: Any) -> None:
    for name in (
        'BoundingBox2D',
        'Detection2D',
        'Detection2DArray',
        'ObjectHypothesis',
        'ObjectHypothesisWithPose',
    ):
        monkeypatch.setattr(object_messages, name, getattr(vision_msgs, name), raising=False)


# Of vision_msgs 4.1.1; `ros2 topic info --verbose` shows them where it is installed.
DETECTIONS_HASH = 'RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968'
LABEL_INFO_HASH = 'RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783'
CALIBRATION = Calibration((500.0, 500.0, 320.0, 180.0))
FOOT = find_on_ground((400.0, 230.0), CALIBRATION, Mounting(1.5))
HEADER = Header(frame_id='front_optical')
HEADER.stamp.sec, HEADER.stamp.nanosec = 12, 34
STANDING = AnomalousObject(7, (380.0, 200.0, 40.0, 30.0), 0.7, 0.9, 0.8, FOOT)
HANGING = AnomalousObject(9, (10.0, 5.0, 20.0, 20.0), 0.6, 0.65, 0.0, None)


@pytest.mark.usefixtures('vision')
def test_detections_tell_what_is_known_of_each_object():
    message = object_messages.detections(HEADER, [STANDING, HANGING])
    assert message.header == HEADER
    assert [d.id for d in message.detections] == ['7', '9']
    assert all(d.header == HEADER for d in message.detections)
    standing, hanging = message.detections
    box = standing.bbox
    assert (box.center.position.x, box.center.position.y) == (400.0, 215.0)
    assert (box.size_x, box.size_y) == (40.0, 30.0)
    values = {r.hypothesis.class_id: r.hypothesis.score for r in standing.results}
    assert list(values) == ['anomaly', 'on_ground', 'distance_m', 'bearing_rad']
    assert (values['anomaly'], values['on_ground']) == (0.9, 0.8)
    assert values['distance_m'] == pytest.approx(math.hypot(15.0, 2.4))
    assert values['bearing_rad'] == pytest.approx(-math.atan2(2.4, 15.0))
    place = standing.results[0].pose.pose.position
    assert (place.x, place.y, place.z) == pytest.approx((2.4, 1.5, 15.0))
    assert [r.hypothesis.class_id for r in hanging.results] == ['anomaly', 'on_ground']
    assert hanging.results[0].pose.covariance[0] == -1.0


def test_markers_stand_on_the_ground_and_replace_the_last_ones():
    pytest.importorskip('visualization_msgs')
    first, body, text = object_messages.markers(HEADER, [STANDING, HANGING], CALIBRATION).markers
    assert first.action == first.DELETEALL
    assert body.header == text.header == HEADER
    assert body.id == text.id == 7
    # 40 x 30 pixels 15 m away; y points down.
    assert (body.scale.x, body.scale.y) == pytest.approx((1.2, 0.9))
    assert body.pose.position.y + body.scale.y / 2 == pytest.approx(1.5)
    assert text.text == '7: 15 m'


@pytest.mark.usefixtures('vision')
def test_a_node_sends_objects_of_their_camera(monkeypatch, vision_msgs):
    sent: dict[str, list[Any]] = {}

    def create(kind, topic, qos, **_):
        messages = sent.setdefault(topic, [])
        return SimpleNamespace(publish=messages.append, get_subscription_count=lambda: 1)

    monkeypatch.setattr(publishers, 'MismatchedReaders', lambda _: SimpleNamespace())
    monkeypatch.setitem(publishers._TYPES, DETECTIONS, vision_msgs.Detection2DArray)
    node: Any = SimpleNamespace(create_lifecycle_publisher=create)
    outputs = publishers.CameraOutputs(
        node, 'front', CITYSCAPES, mounting_of=lambda _: Mounting(1.5)
    )
    assert Output.ANOMALIES in outputs.wanted(False)
    settings: Any = SimpleNamespace(
        anomaly_threshold=0.5, min_anomaly_area=0, anomaly_min_hits=2, overlay_alpha=0.5
    )
    road = np.zeros((90, 160), np.uint8)
    anomaly = road.copy()
    anomaly[50:60, 100:110] = 200
    said = FrameOutput(road, anomaly, road.astype(np.float32), (360, 640))
    info = CameraInfo(width=1280, height=720)
    info.k[[0, 4, 2, 5]] = 1000.0, 1000.0, 640.0, 360.0
    frame = Picture(np.zeros((360, 640, 3), np.uint8))
    for _ in range(2):
        outputs.publish(frozenset({Output.ANOMALIES}), HEADER, frame, said, settings, info)
    before, after = sent['~/front/anomalies']
    assert before.header == after.header == HEADER
    assert before.detections == []
    [found] = after.detections
    assert (found.bbox.size_x, found.bbox.size_y) == (40.0, 40.0)
    values = {r.hypothesis.class_id: r.hypothesis.score for r in found.results}
    # Its lower border is at row 239.5 of 360, 59.5 below the horizon; 500 pixels are the focal.
    assert values['distance_m'] == pytest.approx(1.5 * 500 / 59.5, rel=0.03)
    assert values['on_ground'] == 1.0


def test_without_vision_msgs_there_are_no_objects(monkeypatch):
    topics = []

    def create(kind, topic, qos, **_):
        topics.append(topic)
        return SimpleNamespace(get_subscription_count=lambda: 1)

    monkeypatch.setattr(publishers, 'MismatchedReaders', lambda _: SimpleNamespace())
    monkeypatch.setitem(publishers._TYPES, DETECTIONS, None)
    node: Any = SimpleNamespace(create_lifecycle_publisher=create)
    publishers.CameraOutputs(node, 'front', CITYSCAPES)
    assert '~/front/anomalies' not in topics
    assert '~/front/labels' in topics


def test_what_stands_in_for_vision_msgs_is_what_that_defines(vision_definitions):
    """By the hash that ROS makes of names, types and order, those nested in them included."""
    types = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in vision_definitions.items():
        types.register(get_types_from_msg(definition, f'vision_msgs/msg/{name}'))
    assert types.hash_rihs01(DETECTIONS) == DETECTIONS_HASH
    assert types.hash_rihs01(LABEL_INFO) == TYPES.hash_rihs01(LABEL_INFO) == LABEL_INFO_HASH

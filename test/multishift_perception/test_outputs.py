# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from multishift_perception.bags import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from multishift_perception.message_types import DIAGNOSTIC_ARRAY
from multishift_perception.outputs import NODE, Output


def test_topics_and_types_are_those_that_others_subscribe_to() -> None:
    assert {
        output.topic_of('front', NODE): (output.kind, output.encoding) for output in Output
    } == {
        '/multishift_perception/front/labels': (IMAGE, 'mono8'),
        '/multishift_perception/front/anomaly_mask': (IMAGE, 'mono8'),
        '/multishift_perception/front/anomaly_score': (IMAGE, '32FC1'),
        '/multishift_perception/front/confidence': (IMAGE, 'mono8'),
        '/multishift_perception/front/overlay': (IMAGE, 'rgb8'),
        '/multishift_perception/front/overlay/compressed': (COMPRESSED_IMAGE, ''),
        '/multishift_perception/front/domain_shift': ('std_msgs/msg/Float32', ''),
        '/multishift_perception/front/shifts': (DIAGNOSTIC_ARRAY, ''),
        '/multishift_perception/front/anomalies': ('vision_msgs/msg/Detection2DArray', ''),
        '/multishift_perception/front/anomaly_markers': (
            'visualization_msgs/msg/MarkerArray',
            '',
        ),
        '/multishift_perception/front/camera_info': (CAMERA_INFO, ''),
        '/multishift_perception/front/label_info': ('vision_msgs/msg/LabelInfo', ''),
    }


def test_every_image_has_an_encoding_of_its_own_or_is_compressed() -> None:
    for output in Output:
        assert bool(output.encoding) == (output.kind == IMAGE)


def test_what_a_report_times_is_recorded_and_waited_for() -> None:
    timed = {output.topic: output.stage for output in Output if output.stage}
    assert timed == {
        'labels': 'stamp to labels',
        'anomaly_score': 'stamp to anomaly score',
        'overlay/compressed': 'stamp to JPEG overlay',
    }
    assert all(output.recorded and output.is_image for output in Output if output.stage)

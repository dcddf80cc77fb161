# SPDX-License-Identifier: Apache-2.0
"""Objects as messages of packages that need not be installed: vision_msgs, visualization_msgs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from std_msgs.msg import Header

from multishift_perception.ground_plane import Calibration
from multishift_perception.objects import AnomalousObject

try:
    from vision_msgs.msg import (
        BoundingBox2D,
        Detection2D,
        Detection2DArray,
        ObjectHypothesis,
        ObjectHypothesisWithPose,
    )
except ImportError:  # anomalies are published where vision_msgs is installed
    Detection2DArray = None
try:
    from visualization_msgs.msg import Marker, MarkerArray
except ImportError:  # and their markers where visualization_msgs is
    MarkerArray = None

__all__ = ['Detection2DArray', 'MarkerArray', 'detections', 'markers']

_TEXT_M = 0.5


def detections(header: Header, objects: Sequence[AnomalousObject]) -> Any:
    """Return a ``Detection2DArray`` of a frame's objects.

    The first result of each has the score of the anomaly, and its foot in the optical frame as its
    pose, or -1 as the first covariance where that is not known; the others have further values.
    """
    return Detection2DArray(header=header, detections=[_detection(header, o) for o in objects])


def _detection(header: Header, found: AnomalousObject) -> Any:
    left, top, width, height = found.box
    box = BoundingBox2D(size_x=width, size_y=height)
    box.center.position.x, box.center.position.y = left + width / 2, top + height / 2
    values = {'anomaly': found.max_score, 'on_ground': found.on_ground}
    if found.foot is not None:
        values |= {'distance_m': found.foot.distance, 'bearing_rad': found.foot.bearing}
    results = [
        ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=name, score=value))
        for name, value in values.items()
    ]
    pose = results[0].pose
    if found.foot is None:
        pose.covariance[0] = -1.0
    else:
        place = pose.pose.position
        place.x, place.y, place.z = found.foot.position
    return Detection2D(header=header, id=str(found.number), bbox=box, results=results)


def markers(
    header: Header, objects: Sequence[AnomalousObject], calibration: Calibration | None
) -> Any:
    """Return a ``MarkerArray`` of the objects whose foot is known, which replaces the last."""
    fresh = [Marker(header=header, action=Marker.DELETEALL)]
    for found in objects:
        if found.foot is None or calibration is None:
            continue
        right, down, forward = found.foot.position
        fx, fy, *_ = calibration.matrix
        width, height = found.box[2] * forward / fx, found.box[3] * forward / fy
        body = _marker(header, 'anomalies', found, Marker.CUBE, down - height / 2)
        body.scale.x = body.scale.z = width
        body.scale.y = height
        body.color.a = 0.6
        text = _marker(
            header, 'distances', found, Marker.TEXT_VIEW_FACING, down - height - _TEXT_M
        )
        text.scale.z = _TEXT_M
        text.color.a = 1.0
        text.text = f'{found.number}: {found.foot.distance:.0f} m'
        for marker in (body, text):
            marker.pose.position.x, marker.pose.position.z = right, forward
            marker.color.r, marker.color.g = 1.0, 1.0 - found.max_score
        fresh += [body, text]
    return MarkerArray(markers=fresh)


def _marker(header: Header, space: str, found: AnomalousObject, kind: int, y: float) -> Any:
    marker = Marker(header=header, ns=space, id=found.number, type=kind, action=Marker.ADD)
    marker.pose.position.y = y
    marker.pose.orientation.w = 1.0
    return marker

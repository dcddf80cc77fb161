# SPDX-License-Identifier: Apache-2.0
"""What the node is called and what it publishes: one list, for all who name an output.

A new output is a line of ``Output`` and, in ``node/publishers.py``, what computes it.
"""

from __future__ import annotations

from enum import Enum

from multishift_perception.message_types import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    DETECTIONS,
    DIAGNOSTIC_ARRAY,
    FLOAT32,
    IMAGE,
    LABEL_INFO,
    MARKERS,
)

NODE_NAME = 'multishift_perception'
# The node's full name where no namespace is given, as in the demo.
NODE = f'/{NODE_NAME}'
DIAGNOSTICS = '/diagnostics'


class Output(Enum):
    """An output of a camera, in the order in which a frame's are published.

    Attributes:
        topic: its topic, below ``~/<camera>/``.
        kind: ROS message type.
        encoding: of an Image; empty for other types.
        stage: what reports call the time from a frame's stamp to this; empty where none lists it.
        recorded: whether the demo records it, and waits for it where it is an image.
    """

    LABELS = 'labels', IMAGE, 'mono8', 'stamp to labels'
    ANOMALY_SCORE = 'anomaly_score', IMAGE, '32FC1', 'stamp to anomaly score'
    ANOMALY_MASK = 'anomaly_mask', IMAGE, 'mono8'
    CONFIDENCE = 'confidence', IMAGE, 'mono8', '', False
    OVERLAY = 'overlay', IMAGE, 'rgb8', '', False
    OVERLAY_JPEG = 'overlay/compressed', COMPRESSED_IMAGE, '', 'stamp to JPEG overlay'
    DOMAIN_SHIFT = 'domain_shift', FLOAT32, '', '', False
    SHIFTS = 'shifts', DIAGNOSTIC_ARRAY, '', '', False
    ANOMALIES = 'anomalies', DETECTIONS, '', '', False
    ANOMALY_MARKERS = 'anomaly_markers', MARKERS, '', '', False
    CALIBRATION = 'camera_info', CAMERA_INFO
    CLASS_NAMES = 'label_info', LABEL_INFO, '', '', False

    def __init__(
        self, topic: str, kind: str, encoding: str = '', stage: str = '', recorded: bool = True
    ) -> None:
        """Name the values of a line."""
        self.topic = topic
        self.kind = kind
        self.encoding = encoding
        self.stage = stage
        self.recorded = recorded

    @property
    def is_image(self) -> bool:
        """Whether it is an image that is computed of a frame."""
        return self.kind in (IMAGE, COMPRESSED_IMAGE)

    @property
    def needs_engine(self) -> bool:
        """Whether it takes an engine call for each frame."""
        return self not in (Output.CALIBRATION, Output.CLASS_NAMES)

    def topic_of(self, camera: str, node: str = '~') -> str:
        """Return the topic for a camera; ``node`` is the node's full name, or ``~`` within it."""
        return f'{node}/{camera}/{self.topic}'


# Those that the camera's calibration is wanted for.
OBJECTS = frozenset({Output.ANOMALIES, Output.ANOMALY_MARKERS})


# Keys in a camera's status that others read, beside those of `FrameTally`.
PROCESSED_RATE, COVARIATE_SHIFT = 'processed rate (Hz)', 'covariate shift'


def engine_status_name(node: str) -> str:
    """Return the name under which the diagnostics have the engine; as `camera_status_name`."""
    return f'{node}: engine'


def shift_status_name(camera: str) -> str:
    """Return the name of the status on a camera's topic ``shifts``."""
    return f'{camera}: shift'


def camera_status_name(node: str, camera: str) -> str:
    """Return the name under which the diagnostics have a camera.

    Args:
        node: the node's full name, with its namespace, without the first slash.
        camera: name of the camera.
    """
    return f'{node}: camera {camera}'

"""The outputs of one camera: what is watched is computed and sent, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from multishift_perception.classes import SemanticClass, color_table
from multishift_perception.node.messages import image_message, jpeg_message, scaled_camera_info
from multishift_perception.node.parameters import Settings
from multishift_perception.overlay import draw_overlay
from multishift_perception.pipeline import FrameOutput, anomaly_mask, score_unit

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # label_info is published where vision_msgs is installed
    LabelInfo = None

OVERRIDABLE = QoSOverridingOptions(
    (
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    )
)
_TOPICS = {
    'labels': Image,
    'anomaly_mask': Image,
    'anomaly_score': Image,
    'overlay': Image,
    'overlay/compressed': CompressedImage,
    'camera_info': CameraInfo,
}


class CameraOutputs:
    """The publishers of one camera under ``~/<camera>/``."""

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        classes: tuple[SemanticClass, ...],
        on_matched: Callable[[], None],
    ) -> None:
        """Create the publishers.

        Args:
            node: the node.
            camera: name of the camera.
            classes: the engine's classes.
            on_matched: called when a subscriber of any output comes or goes.
        """
        self._node = node
        self._classes = classes
        self._colors = color_table(classes)
        self._publishers: dict[str, Any] = {}
        self._label_info: Any = None
        events = PublisherEventCallbacks(matched=lambda _: on_matched())
        try:
            for topic, kind in _TOPICS.items():
                self._publishers[topic] = self._create(f'~/{camera}/{topic}', kind, events)
            self._label_info = LabelInfo and self._create(f'~/{camera}/label_info', LabelInfo)
        except BaseException:
            self.destroy()
            raise

    def wanted(self, publish_always: bool) -> frozenset[str]:
        """Return the topics to publish."""
        return frozenset(
            topic
            for topic, publisher in self._publishers.items()
            if publish_always or publisher.get_subscription_count() > 0
        )

    def publish(
        self,
        wanted: frozenset[str],
        header: Any,
        frame: NDArray[np.uint8],
        output: FrameOutput,
        settings: Settings,
    ) -> None:
        """Compute and publish the wanted images of one frame.

        Args:
            wanted: topics, as ``wanted`` returned them.
            header: the frame's header, which every output carries.
            frame: RGB ``uint8 [h,w,3]``.
            output: what the engine said of the frame.
            settings: the node's settings.
        """
        if 'labels' in wanted:
            self._send('labels', image_message(header, 'mono8', output.labels))
        if 'anomaly_score' in wanted:
            score = score_unit(output.anomaly)
            self._send('anomaly_score', image_message(header, '32FC1', score))
        if wanted.isdisjoint(('anomaly_mask', 'overlay', 'overlay/compressed')):
            return
        mask = anomaly_mask(output.anomaly, settings.anomaly_threshold, settings.min_anomaly_area)
        if 'anomaly_mask' in wanted:
            self._send('anomaly_mask', image_message(header, 'mono8', mask))
        if wanted.isdisjoint(('overlay', 'overlay/compressed')):
            return
        base = _resized(frame, output.labels.shape)
        overlay = draw_overlay(base, output.labels, mask, self._colors, settings.overlay_alpha)
        if 'overlay' in wanted:
            self._send('overlay', image_message(header, 'rgb8', overlay))
        if 'overlay/compressed' in wanted:
            self._send('overlay/compressed', jpeg_message(header, overlay))

    def publish_camera_info(
        self, info: Any, header: Any, image_size: tuple[int, int], output_size: tuple[int, int]
    ) -> None:
        """Publish the calibration that fits the outputs; sizes are height and width."""
        self._send('camera_info', scaled_camera_info(info, header, image_size, output_size))

    def publish_label_info(self, settings: Settings) -> None:
        """Publish the latched class names and threshold, where vision_msgs is installed."""
        if self._label_info is None:
            return
        message = LabelInfo(threshold=settings.anomaly_threshold)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.class_map = [
            VisionClass(class_id=index, class_name=known.name)
            for index, known in enumerate(self._classes)
        ]
        self._label_info.publish(message)

    def destroy(self) -> None:
        """Destroy the publishers."""
        for publisher in (*self._publishers.values(), self._label_info):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def _create(self, topic: str, kind: Any, events: Any = None) -> Any:
        latched = kind is LabelInfo
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        return self._node.create_lifecycle_publisher(
            kind, topic, qos, qos_overriding_options=OVERRIDABLE, event_callbacks=events
        )

    def _send(self, topic: str, message: Any) -> None:
        self._publishers[topic].publish(message)


def _resized(frame: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if frame.shape[:2] == shape:
        return frame
    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)

# SPDX-License-Identifier: Apache-2.0
"""A perception node as tutorials write one, for `node_cost.py` to compare with.

One callback does it all, with cv_bridge, OpenCV and NumPy as most people use them. It shares the
engine with ours, and by ``--fit node`` the resizing; ``--fit area`` is plain ``INTER_AREA``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
from cv_bridge import CvBridge
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from multishift_perception.classes import color_table
from multishift_perception.engine import Engine
from multishift_perception.images.resizing import fit

_THRESHOLD = 128
_TINT, _OUTLINE = (255, 0, 255), (255, 255, 0)


class PlainNode(Node):  # type: ignore[misc]
    """Subscribes to a camera, and publishes labels, mask, and all else where it is told to."""

    def __init__(self, name: str, engine: Engine, *, does_all: bool, area: bool) -> None:
        """Create the topics below ``/<name>/``."""
        super().__init__(name)
        self._engine = engine
        self._colors = color_table(engine.classes)
        self._bridge = CvBridge()
        self._shrink: Callable[..., NDArray[np.uint8]] = _area if area else fit
        self._topics = ['labels', 'anomaly_mask']
        if does_all:
            self._topics += ['anomaly_score', 'overlay']
        self._outputs = {
            topic: self.create_publisher(Image, f'/{name}/camera/{topic}', 1)
            for topic in self._topics
        }
        self.create_subscription(
            Image, f'/{name}/image_raw', self._on_image, qos_profile_sensor_data
        )

    def _on_image(self, message: Image) -> None:
        image = self._bridge.imgmsg_to_cv2(message, 'rgb8')
        height, width = image.shape[:2]
        small = self._shrink(image, self._engine.input_shape[1:])
        result = self._engine.infer(small[None])
        size = (width, height)
        labels = cv2.resize(result.label[0], size, interpolation=cv2.INTER_NEAREST)
        anomaly = cv2.resize(result.anomaly[0], size)
        mask = np.where(anomaly >= _THRESHOLD, 255, 0).astype(np.uint8)
        self._publish('labels', labels, 'mono8', message.header)
        self._publish('anomaly_mask', mask, 'mono8', message.header)
        if 'overlay' not in self._outputs:
            return
        score = anomaly.astype(np.float32) / 255
        self._publish('anomaly_score', score, '32FC1', message.header)
        overlay = (0.5 * image + 0.5 * self._colors[labels]).astype(np.uint8)
        overlay[mask > 0] = 0.4 * overlay[mask > 0] + 0.6 * np.array(_TINT)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(overlay, contours, -1, _OUTLINE, 2)
        self._publish('overlay', overlay, 'rgb8', message.header)

    def _publish(self, topic: str, pixels: Any, encoding: str, header: Any) -> None:
        message = self._bridge.cv2_to_imgmsg(pixels, encoding)
        message.header = header
        self._outputs[topic].publish(message)


def _area(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = size
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

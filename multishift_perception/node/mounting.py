# SPDX-License-Identifier: Apache-2.0
"""How cameras are mounted, as tf tells it."""

from __future__ import annotations

from collections.abc import Callable
import logging
import math
import time
from typing import Any

from rclpy.node import Node
from rclpy.time import Time

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.ground_plane import Mounting

logger = logging.getLogger(__name__)

# By the frame of an image, the camera's optical one.
MountingOf = Callable[[str], Mounting | None]

_ASK_AGAIN_S = 1.0
_LEAN = math.radians(3)


class TransformMountings:
    """Asks tf how cameras are mounted above a frame on the ground.

    Cameras do not move on their vehicle: what tf has said once, holds until the node is configured
    anew.
    """

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        """Listen to tf.

        Args:
            node: whose executor the listener takes part in.
            clock: returns seconds.

        Raises:
            MultishiftError: `tf2_ros` is not installed.
        """
        try:
            import tf2_ros
        except ImportError as error:
            raise MultishiftError(
                f'a camera has a ground_frame, but tf2_ros cannot be imported ({error}): install '
                'ros-$ROS_DISTRO-tf2-ros-py, or set mount_height and mount_pitch instead'
            ) from error
        self._faults: tuple[type[Exception], ...] = (tf2_ros.TransformException,)
        self._clock = clock
        self._buffer: Any = tf2_ros.Buffer()
        self._listener: Any = tf2_ros.TransformListener(self._buffer, node)
        self._known: dict[tuple[str, str], Mounting] = {}
        self._asked: dict[tuple[str, str], float] = {}

    def find(self, ground: str, camera: str) -> Mounting | None:
        """Return how a camera is mounted; None as long as tf does not tell, which is said once.

        Args:
            ground: a frame on the ground, whose z axis points up.
            camera: the camera's optical frame.
        """
        pair = ground, camera
        if known := self._known.get(pair):
            return known
        now, before = self._clock(), self._asked.get(pair)
        if before is not None and now - before < _ASK_AGAIN_S:
            return None
        self._asked[pair] = now
        try:
            found = self._buffer.lookup_transform(ground, camera, Time())
        except self._faults as error:
            if before is None:
                logger.warning(
                    'tf does not tell where %s is above %s (%s): objects are not placed yet',
                    camera,
                    ground,
                    one_line(error),
                )
            return None
        mounting = _mounting(found.transform, camera, ground)
        if mounting.height <= 0:
            if before is None:
                logger.warning(
                    'tf says that %s is not above %s (%.2f m): give the ground_frame of the '
                    'ground',
                    camera,
                    ground,
                    mounting.height,
                )
            return None
        self._known[pair] = mounting
        logger.info(
            '%s is %.2f m above %s and looks %.1f degrees down, says tf',
            camera,
            mounting.height,
            ground,
            round(math.degrees(mounting.pitch), 1) + 0.0,  # never -0.0
        )
        return mounting

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()


def _mounting(transform: Any, camera: str, ground: str) -> Mounting:
    """Return height and pitch of an optical frame (right, down, forward) above the ground."""
    q = transform.rotation
    ahead = 1 - 2 * (q.x * q.x + q.y * q.y)  # how much the optical axis rises
    right = 2 * (q.x * q.z - q.w * q.y)
    down = 2 * (q.y * q.z + q.w * q.x)
    lean = math.atan2(right, -down)  # of the horizon in the image
    if abs(lean) > _LEAN:
        logger.warning(
            '%s leans to a side by %.0f degrees against %s: distances are off, as none is '
            'reckoned with; is it an optical frame?',
            camera,
            math.degrees(abs(lean)),
            ground,
        )
    return Mounting(transform.translation.z, -math.asin(max(-1.0, min(1.0, ahead))))

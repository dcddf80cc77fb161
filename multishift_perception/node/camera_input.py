# SPDX-License-Identifier: Apache-2.0
"""The input side of one camera: subscriptions that exist only while somebody watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from multishift_perception.errors import one_line
from multishift_perception.message_types import COMPRESSED_IMAGE, IMAGE
from multishift_perception.node.lost_frames import SequenceGaps
from multishift_perception.node.parameters import CameraSettings
from multishift_perception.node.publishers import OVERRIDABLE

_IMAGE_TYPES = {IMAGE, COMPRESSED_IMAGE}
_COMPRESSED = '/compressed'
_SEGMENT_HINT = (
    "the shared memory of the publisher's process is too small for its images: start the camera "
    'driver with the DDS profile config/fastdds_shm.xml of this package, or use transport '
    'compressed'
)


class CameraInput:
    """Subscribes to a camera's images, and to its calibration, while they are wanted."""

    def __init__(
        self, node: Node, camera: CameraSettings, on_frame: Callable[[Any, int], None]
    ) -> None:
        """Prepare; nothing stays subscribed yet.

        Args:
            node: the node.
            camera: the camera's settings.
            on_frame: called with each image message, and how many before it were lost; must only
                store it.

        Raises:
            RuntimeError: a ``qos_overrides`` parameter has a bad value.
        """
        self._node = node
        self._on_frame = on_frame
        self._kind = CompressedImage if camera.transport == 'compressed' else Image
        image = camera.image_topic
        if camera.transport == 'compressed':
            image = image.removesuffix(_COMPRESSED)
        self._topic, self._info_topic = self._names(image)
        self.topic: str = node.resolve_topic_name(self._topic)
        self._images: Any = None
        self._gaps = SequenceGaps()
        self._infos: Any = None
        self.camera_info: Any = None
        # Fast DDS numbers messages and has no event for lost ones; others may do neither.
        self.counts_lost = True
        # A bad QoS override shows on creation: better now than when the first watcher comes.
        self.watch(images=True, infos=True)
        self.watch(images=False, infos=False)

    @property
    def is_watched(self) -> bool:
        """Whether the images are subscribed."""
        return self._images is not None

    def watch(self, *, images: bool, infos: bool) -> None:
        """Subscribe to what is wanted, and unsubscribe from the rest."""
        if images != (self._images is not None):
            self._gaps.forget()
            self._images = self._switched(self._images, self._kind, self._topic, self._receive)
        if infos != (self._infos is not None):
            self._infos = self._switched(
                self._infos, CameraInfo, self._info_topic, self._store_info
            )

    def why_silent(self) -> tuple[int, str]:
        """Say why no image comes.

        Returns:
            The number of publishers of the topic, and the likely cause for people.
        """
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        if not publishers:
            return 0, f'no publisher on {self.topic}{self._similar_topics()}'
        cause = self._mismatch(publishers) or _SEGMENT_HINT
        return len(publishers), cause

    def _names(self, image: str) -> tuple[str, str]:
        """Return the names of images and calibration, which stands beside the images.

        A remap of the raw image's name moves both with it, as image_transport has it, unless
        they are remapped themselves.

        Args:
            image: name of the raw image, as the parameter gives it.
        """
        resolved = self._node.resolve_topic_name(image)
        expanded = self._node.resolve_topic_name(image, only_expand=True)
        beside = '{}/camera_info'
        info = beside.format(expanded.rpartition('/')[0])
        if self._node.resolve_topic_name(info) == info:
            info = beside.format(resolved.rpartition('/')[0])
        if self._kind is Image:
            return image, info
        compressed = expanded + _COMPRESSED
        if self._node.resolve_topic_name(compressed) == compressed:
            compressed = resolved + _COMPRESSED
        return compressed, info

    def _switched(self, existing: Any, kind: Any, topic: str, callback: Any) -> Any:
        if existing is not None:
            self._node.destroy_subscription(existing)
            return None
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        return self._node.create_subscription(
            kind,
            topic,
            callback,
            qos,
            qos_overriding_options=OVERRIDABLE,
            # What does not match is told by `why_silent`; waiting for it costs with each frame.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )

    def _receive(self, message: Any, info: Mapping[str, Any]) -> None:
        number = info['publication_sequence_number']
        self.counts_lost = number is not None
        if number is None or self._images.get_publisher_count() != 1:
            self._gaps.forget()  # the numbers of several publishers cannot be told apart
            self._on_frame(message, 0)
        else:
            self._on_frame(message, self._gaps.lost_before(number))

    def _store_info(self, message: Any) -> None:
        self.camera_info = message

    def _mismatch(self, publishers: list[Any]) -> str | None:
        """Return in what every publisher differs from the subscription, if it does."""
        wanted = f'sensor_msgs/msg/{self._kind.__name__}'
        types = {p.topic_type for p in publishers}
        if wanted not in types:
            return f'it carries {", ".join(sorted(types))}, not {wanted}: see parameter transport'
        if self._images is None:
            return None
        for publisher in publishers:
            fits, reason = qos_check_compatible(publisher.qos_profile, self._images.qos_profile)
            if fits != QoSCompatibility.ERROR:
                return None
        return f'QoS mismatch ({one_line(reason)}): see qos_overrides'

    def _similar_topics(self) -> str:
        own = self._node.get_fully_qualified_name() + '/'
        topics = [
            name
            for name, types in self._node.get_topic_names_and_types()
            if not _IMAGE_TYPES.isdisjoint(types)
            and name != self.topic
            and not name.startswith(own)
            and self._node.count_publishers(name)
        ]
        near = get_close_matches(self.topic, topics, n=3, cutoff=0)
        if not near:
            return '; there is no image topic at all'
        return f'; existing image topics: {", ".join(near)}'

# SPDX-License-Identifier: Apache-2.0
"""The input side of one camera: subscriptions that exist only while somebody watches."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
import logging
import time
from typing import Any

import rclpy
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import InvalidHandle
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
from multishift_perception.node import rcl
from multishift_perception.node.arrivals import Arrivals, Untaken
from multishift_perception.node.frame_slots import Arrival
from multishift_perception.node.lost_frames import LostFrames
from multishift_perception.node.parameter_specs import OVERRIDABLE
from multishift_perception.node.parameters import CameraSettings

logger = logging.getLogger(__name__)

# A longer wait in the middleware than this is none: its clock was set.
_CREDIBLE_WAIT_S = 60.0
_IMAGE_TYPES = {IMAGE, COMPRESSED_IMAGE}
_COMPRESSED = '/compressed'
_SEGMENT_HINT = (
    "the shared memory of the publisher's process is too small for its images: start the camera "
    'driver with the DDS profile config/fastdds_shm.xml of this package, or use transport '
    'compressed'
)


class CameraInput:
    """Subscribes to a camera's images, and to its calibration, while they are wanted.

    The executor's thread has it subscribe, and stores the calibration; images wait in the
    middleware until the worker's thread takes them.

    Attributes:
        topic: resolved name of the topic of the images.
        camera_info: the newest calibration, a ``CameraInfo``; None before the first.
        counts_lost: whether the middleware numbers messages, so that lost ones are counted.
    """

    def __init__(
        self,
        node: Node,
        camera: CameraSettings,
        arrivals: Arrivals,
        on_arrivals: Callable[[int], None],
        on_loss: Callable[[int], None],
    ) -> None:
        """Prepare; nothing stays subscribed yet.

        Args:
            node: the node.
            camera: the camera's settings.
            arrivals: hears of frames.
            on_arrivals: called with how many frames have come, by the thread of ``arrivals`` or by
                who takes a frame.
            on_loss: called with how many were lost on their way, by who takes a frame.

        Raises:
            RuntimeError: a ``qos_overrides`` parameter has a bad value.
        """
        self._node = node
        self._arrivals = arrivals
        self._on_arrivals = on_arrivals
        self._on_loss = on_loss
        self._kind = CompressedImage if camera.transport == 'compressed' else Image
        image = camera.image_topic
        if camera.transport == 'compressed':
            image = image.removesuffix(_COMPRESSED)
        self._image_name, self._info_name = self._names(image)
        self.topic: str = node.resolve_topic_name(self._image_name)
        self._images: _ImageSubscription | None = None
        self._info_subscription: Any = None
        self.camera_info: Any = None
        # Fast DDS numbers messages and has no event for lost ones; others may do neither.
        self.counts_lost = True
        # A bad QoS override shows on creation: better now than when the first watcher comes.
        try:
            self.watch(images=True, infos=True)
        finally:
            self.watch(images=False, infos=False)

    @property
    def is_watched(self) -> bool:
        """Whether the images are subscribed."""
        return self._images is not None

    def watch(self, *, images: bool, infos: bool) -> None:
        """Subscribe to what is wanted, and unsubscribe from the rest."""
        if images and self._images is None:
            # A group of its own: those of rclpy never forget what was in them.
            subscription = self._subscribe(self._kind, self._image_name, _never_called, Untaken())
            try:
                self._images = _ImageSubscription(subscription, self._arrivals, self._on_arrivals)
            except BaseException:
                self._node.destroy_subscription(subscription)
                raise
        elif not images and self._images is not None:
            former, self._images = self._images, None
            self._arrivals.forget(former.counter)
            self._node.destroy_subscription(former.subscription)
        if infos and self._info_subscription is None:
            group = MutuallyExclusiveCallbackGroup()
            self._info_subscription = self._subscribe(
                CameraInfo, self._info_name, self._store_info, group
            )
        elif not infos and self._info_subscription is not None:
            self._node.destroy_subscription(self._info_subscription)
            self._info_subscription = None

    def take(self) -> Arrival | None:
        """Take the newest frame; None if there is none."""
        images = self._images
        if images is None:
            return None
        try:
            image, lost = images.take()
        except InvalidHandle:  # nobody watches any more
            return None
        except RuntimeError:  # of the middleware: the next frame may be better
            if rclpy.ok():
                logger.exception('a frame of %s cannot be taken', self.topic)
            return None
        if image is None:
            return None
        self.counts_lost = image.number is not None
        if lost:
            self._on_loss(lost)
        return Arrival(image, time.monotonic() - _waited_s(image.received_ns))

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
        """Return the names, yet to be remapped, of images and calibration, which is beside them.

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

    def _subscribe(self, kind: Any, topic: str, callback: Any, group: CallbackGroup) -> Any:
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
            callback_group=group,
            qos_overriding_options=OVERRIDABLE,
            # What does not match is told by `why_silent`; waiting for it costs with each frame.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )

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
        qos = self._images.subscription.qos_profile
        for publisher in publishers:
            fits, reason = qos_check_compatible(publisher.qos_profile, qos)
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


class _ImageSubscription:
    """A subscription of images, and what was received of it."""

    def __init__(
        self, subscription: Any, arrivals: Arrivals, on_arrivals: Callable[[int], None]
    ) -> None:
        self.subscription = subscription
        self._on_arrivals = on_arrivals
        self._lost = LostFrames()
        self.counter = arrivals.count(subscription, self._receive)

    def take(self) -> tuple[rcl.TakenImage | None, int]:
        """Take the newest frame, if there is one; returns also how many were lost before it.

        Raises:
            InvalidHandle: the subscription is destroyed.
            RuntimeError: the middleware cannot hand it over.
        """
        asked_ns = time.time_ns()
        self.counter.read()
        noted = self._lost.received
        image = rcl.take(self.subscription)
        # With a depth of one, as it is by default, there is no newer one.
        while self.subscription.qos_profile.depth != 1 and (newer := rcl.take(self.subscription)):
            image = newer
        if image is None:
            return None, 0
        self.counter.read()
        noted_since = self._lost.received - noted
        return image, self._lost_before(image, noted_since, image.received_ns > asked_ns)

    def _lost_before(self, image: rcl.TakenImage, noted_since: int, came_since: bool) -> int:
        """Return how many frames turn out to be lost before one that was taken.

        Args:
            image: the frame.
            noted_since: how many frames the middleware has told of since it was asked for.
            came_since: whether this one came since then, too.
        """
        if image.number is None or self.subscription.get_publisher_count() != 1:
            self._lost.forget()  # the numbers of several publishers cannot be told apart
            return 0
        # The middleware tells of what is still unread when it comes to tell: of one that came and
        # was taken at once it may tell nothing.
        is_noted = noted_since > 0 or not came_since
        is_among_them = came_since and is_noted
        lost, unnoted = self._lost.lost_before(
            image.number, later=noted_since - is_among_them, is_noted=is_noted
        )
        if unnoted:
            self._on_arrivals(unnoted)
        return lost

    def _receive(self, count: int) -> None:
        self._lost.receive(count)
        self._on_arrivals(count)


def _never_called(message: Any) -> None:
    """Be the callback of a subscription whose messages are taken otherwise."""


def _waited_s(received_ns: int) -> float:
    """Return the seconds since the middleware received a frame; 0 where nothing tells."""
    seconds = (time.time_ns() - received_ns) / 1e9
    return seconds if 0 < seconds < _CREDIBLE_WAIT_S else 0.0

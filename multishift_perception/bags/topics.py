# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag are cameras, and the names that belong to a camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multishift_perception.bags.reading import BagReader
from multishift_perception.errors import MultishiftError
from multishift_perception.message_types import COMPRESSED_IMAGE, IMAGE
from multishift_perception.outputs import Output

# Ground truth topics, below the namespace of their camera.
TRUTH_LABELS = '/ground_truth/labels'
TRUTH_CONDITION = '/ground_truth/condition'

# Image topics that hold the ground truth or the node's own outputs, not what a camera saw.
_NOT_CAMERAS = (TRUTH_LABELS, *(output.topic for output in Output if output.is_image))


def image_topics(reader: BagReader) -> dict[str, str]:
    """Return the topics that hold what a camera saw, with their type.

    Ground truth and the node's own outputs are left out. Of a raw topic and its compressed twin
    the raw one is returned, unless only the compressed one has messages.

    Raises:
        MultishiftError: the bag has no such topic; the error names those that it has.
    """
    cameras = {topic: kind for topic, kind in reader.topics.items() if _of_a_camera(topic, kind)}
    if not cameras:
        listed = ', '.join(f'{topic} ({kind})' for topic, kind in reader.topics.items())
        raise MultishiftError(
            f'{reader.name}: the bag has no image topic ({IMAGE} or {COMPRESSED_IMAGE} of a '
            f'camera); it has: {listed or "no topic at all"}'
        )
    chosen: dict[str, str] = {}
    for topic in sorted(cameras, key=raw_topic):  # a raw topic comes before its twin
        if raw_topic(topic) not in chosen:
            chosen[topic] = cameras[topic]
        elif not reader.count([raw_topic(topic)]) and reader.count([topic]):
            del chosen[raw_topic(topic)]
            chosen[topic] = cameras[topic]
    return dict(sorted(chosen.items()))


def raw_topic(topic: str) -> str:
    """Return an image topic's name without the transport: ``/a/image_raw/compressed`` and raw."""
    return topic.removesuffix('/compressed')


def namespace_of(topic: str) -> str:
    """Return the namespace of an image topic: ``/front`` for ``/front/image_raw``."""
    return raw_topic(topic).rpartition('/')[0]


def info_topic(topic: str) -> str:
    """Return the topic of the calibration of an image topic's camera."""
    return f'{namespace_of(topic)}/camera_info'


def truth_topic(topic: str) -> str:
    """Return the topic of the ground truth of an image topic's frames."""
    return namespace_of(topic) + TRUTH_LABELS


def choose_topics(
    reader: BagReader, *, cameras: Sequence[str] = (), topics: Sequence[str] = ()
) -> dict[str, str]:
    """Return image topics with their type: those of some cameras, those named, or all for none.

    Args:
        reader: the opened bag.
        cameras: names, as ``camera_name`` has them.
        topics: names of topics, which may also be ground truth or a compressed twin.

    Raises:
        MultishiftError: the bag has no such camera or topic; the error names those that it has.
    """
    offered, kinds = image_topics(reader), reader.topics
    for topic in topics:
        if kinds.get(topic) not in (IMAGE, COMPRESSED_IMAGE):
            raise MultishiftError(
                f'{reader.name}: no image topic {topic!r}; the bag has: {", ".join(offered)}'
            )
    names = {topic: camera_name(topic) for topic in offered}
    for camera in cameras:
        if camera not in names.values():
            known = ', '.join(sorted(set(names.values())))
            raise MultishiftError(f'{reader.name}: no camera {camera!r}; it has: {known}')
    if topics:
        return {topic: kinds[topic] for topic in topics}
    return {t: kind for t, kind in offered.items() if names[t] in cameras or not cameras}


def camera_of(topic: str) -> str:
    """Return the camera's name: ``front`` for ``/front/image_raw``, ``image`` for ``/image``."""
    return (namespace_of(topic) or raw_topic(topic)).strip('/')


def camera_name(topic: str) -> str:
    """Return the camera's name as a word that a ROS parameter may hold: ``rig_front``."""
    return camera_of(topic).replace('/', '_')


def mono8(message: Any, topic: str) -> NDArray[np.uint8]:
    """Return the pixels ``uint8 [h,w]`` of a mono8 Image.

    Raises:
        MultishiftError: it has another encoding, or its fields contradict each other.
    """
    height, width, step = message.height, message.width, message.step
    if message.encoding not in ('mono8', '8UC1'):
        raise MultishiftError(f'{topic}: encoding is {message.encoding!r}; expected mono8')
    if step < width or len(message.data) != step * height:
        raise MultishiftError(
            f'{topic}: {len(message.data)} bytes do not make {width} x {height} pixels'
        )
    pixels: NDArray[np.uint8] = np.frombuffer(message.data, np.uint8)
    return pixels.reshape(height, step)[:, :width]


def _of_a_camera(topic: str, kind: str) -> bool:
    """Tell what a camera saw from other topics, the node's own outputs among them."""
    others = map(_last_word, _NOT_CAMERAS)
    return kind in (IMAGE, COMPRESSED_IMAGE) and _last_word(topic) not in others


def _last_word(topic: str) -> str:
    return raw_topic(topic).rpartition('/')[2]

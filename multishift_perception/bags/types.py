# SPDX-License-Identifier: Apache-2.0
"""How messages in bags are serialised."""

from __future__ import annotations

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from multishift_perception.message_types import LABEL_INFO

TYPES = get_typestore(Stores.ROS2_JAZZY)

# Not among those of a bare ROS 2.
_VISION_CLASS = 'vision_msgs/msg/VisionClass'
TYPES.register(get_types_from_msg('uint16 class_id\nstring class_name', _VISION_CLASS))
TYPES.register(
    get_types_from_msg(
        'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold',
        LABEL_INFO,
    )
)

_CDR = 'cdr'


def kind_of(name: str, encoding: str) -> str:
    """Return how a topic's type is listed: the ROS name, with the encoding where it is not CDR.

    A message that is not CDR must not be taken for one, whatever its type is called.
    """
    return name if encoding == _CDR else f'{name or "no type"} ({encoding or "no encoding"})'

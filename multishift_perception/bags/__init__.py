# SPDX-License-Identifier: Apache-2.0
"""rosbag2 bags without ROS: reading those that there are, and writing ``.mcap`` files."""

from multishift_perception.bags.reading import BagReader
from multishift_perception.bags.topics import (
    TRUTH_CONDITION,
    TRUTH_LABELS,
    camera_name,
    camera_of,
    choose_topics,
    image_topics,
    info_topic,
    mono8,
    namespace_of,
    raw_topic,
    truth_topic,
)
from multishift_perception.bags.writing import EPOCH_NS, BagWriter, header
from multishift_perception.message_types import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, STRING
from multishift_perception.stamps import read_stamp, stamp_ns, with_stamp

__all__ = [
    'CAMERA_INFO',
    'COMPRESSED_IMAGE',
    'EPOCH_NS',
    'IMAGE',
    'STRING',
    'TRUTH_CONDITION',
    'TRUTH_LABELS',
    'BagReader',
    'BagWriter',
    'camera_name',
    'camera_of',
    'choose_topics',
    'header',
    'image_topics',
    'info_topic',
    'mono8',
    'namespace_of',
    'raw_topic',
    'read_stamp',
    'stamp_ns',
    'truth_topic',
    'with_stamp',
]

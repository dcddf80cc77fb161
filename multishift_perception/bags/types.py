# SPDX-License-Identifier: Apache-2.0
"""How messages in bags are serialised."""

from __future__ import annotations

from rosbags.typesys import Stores, get_typestore

TYPES = get_typestore(Stores.ROS2_JAZZY)

_CDR = 'cdr'


def kind_of(name: str, encoding: str) -> str:
    """Return how a topic's type is listed: the ROS name, with the encoding where it is not CDR.

    A message that is not CDR must not be taken for one, whatever its type is called.
    """
    return name if encoding == _CDR else f'{name or "no type"} ({encoding or "no encoding"})'

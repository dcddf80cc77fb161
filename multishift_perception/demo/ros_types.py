# SPDX-License-Identifier: Apache-2.0
"""ROS message classes by the names that bags use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from multishift_perception.errors import MultishiftError


def message_class(kind: str) -> Any:
    """Return the class of a message type such as ``sensor_msgs/msg/Image``.

    Raises:
        MultishiftError: the type's package is not installed.
    """
    package, _, name = kind.partition('/msg/')
    try:
        return getattr(import_module(f'{package}.msg'), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise MultishiftError(f'{kind}: no such ROS message here; install {package}') from error

# SPDX-License-Identifier: Apache-2.0
"""Python's logging to the ROS log, so that one place shows everything."""

from __future__ import annotations

import logging
from typing import Any


def log_to(ros_logger: Any) -> None:
    """Have what this package logs, from INFO on, go to a ROS logger, and to no earlier one.

    Args:
        ros_logger: as ``node.get_logger()`` returns it. What goes to one of another name than its
            node's is printed, and does not reach ``/rosout``.
    """
    _HANDLER.ros_logger = ros_logger
    _PACKAGE.setLevel(logging.INFO)
    _PACKAGE.addHandler(_HANDLER)


def log_no_longer() -> None:
    """Have it go to no ROS logger."""
    _PACKAGE.removeHandler(_HANDLER)


class _RosHandler(logging.Handler):
    """Forwards records to a ROS logger."""

    ros_logger: Any

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record, with its traceback."""
        text = self.format(record)
        # One line per severity: rclpy ties a severity to the calling line.
        if record.levelno >= logging.CRITICAL:
            self.ros_logger.fatal(text)
        elif record.levelno >= logging.ERROR:
            self.ros_logger.error(text)
        elif record.levelno >= logging.WARNING:
            self.ros_logger.warning(text)
        elif record.levelno >= logging.INFO:
            self.ros_logger.info(text)
        else:
            self.ros_logger.debug(text)


_PACKAGE = logging.getLogger('multishift_perception')
_HANDLER = _RosHandler()

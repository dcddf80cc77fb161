# SPDX-License-Identifier: Apache-2.0
"""Python's logging to the ROS log, so that one place shows everything."""

from __future__ import annotations

import logging
from typing import Any


class RosHandler(logging.Handler):
    """Forwards records to a ROS logger."""

    def __init__(self, ros_logger: Any) -> None:
        """Forward to ``ros_logger``, as ``node.get_logger()`` returns it."""
        super().__init__()
        self._ros = ros_logger

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record, with its traceback."""
        text = self.format(record)
        # One line per severity: rclpy ties a severity to the calling line.
        if record.levelno >= logging.CRITICAL:
            self._ros.fatal(text)
        elif record.levelno >= logging.ERROR:
            self._ros.error(text)
        elif record.levelno >= logging.WARNING:
            self._ros.warning(text)
        elif record.levelno >= logging.INFO:
            self._ros.info(text)
        else:
            self._ros.debug(text)

# SPDX-License-Identifier: Apache-2.0
"""Entry point of ``ros2 run multishift_perception perception_node``.

What the node imports takes seconds: until it is there, a signal ends the process at once.
"""

from __future__ import annotations

from collections.abc import Sequence
import os
import signal
import sys

from multishift_perception.errors import install_extra, one_line


class Signals:
    """SIGINT and SIGTERM: they end the process in peace, whatever it does at that moment."""

    def __init__(self) -> None:
        """Hear them."""
        self._ends_at_once = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)

    def leave_to_rclpy(self) -> None:
        """End nothing any more: rclpy has heard of the signal, and shuts its context down.

        What rclpy calls goes on to the next callback, instead of a KeyboardInterrupt anywhere.
        """
        self._ends_at_once = False

    def _hear(self, number: int, frame: object) -> None:
        if self._ends_at_once:
            os._exit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted.

    Args:
        arguments: the command line without the program's name; ``sys.argv`` by default.

    Returns:
        0 after an interrupt, 1 where the node cannot start.
    """
    signals = Signals()
    try:
        from multishift_perception.node.run import run
    except ImportError as error:  # ROS is not sourced, or is one for another Python
        if (error.name or '').startswith('multishift'):
            raise
        reason = one_line(error)
        print(
            f'perception_node: needs ROS 2, which does not load ({reason}): source its setup '
            f'file, or, without an installation, run {install_extra("ros")}',
            file=sys.stderr,
        )
        return 1
    return run(list(sys.argv[1:] if arguments is None else arguments), signals.leave_to_rclpy)


if __name__ == '__main__':
    sys.exit(main())

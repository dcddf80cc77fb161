# SPDX-License-Identifier: Apache-2.0
"""The bond with nav2's lifecycle manager, by which that sees that the node lives.

Both ends send heartbeats on the topic ``bond``, under the node's name. The manager forms one with
every node that it has activated, and stops all of them when one breaks.
"""

from __future__ import annotations

import logging
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node

from multishift_perception.errors import one_line
from multishift_perception.node.parameter_specs import BOND_PERIOD_S

logger = logging.getLogger(__name__)

_TOPIC = 'bond'
# As nav2's own nodes, this one goes on where its manager is gone. Besides, bondpy before 4.4 fails
# at a second timeout, and may miss heartbeats among those of many nodes.
_NEVER_S = 365 * 24 * 3600.0


class Bond:
    """The node's end of a bond."""

    def __init__(self, node: Node, kind: Any, period: float) -> None:
        """Send heartbeats from now on.

        Args:
            node: whose executor hears the other end.
            kind: class ``Bond`` of `bondpy`.
            period: seconds between heartbeats.
        """
        self._node = node
        self._face = _Face(node)
        self._bond = kind(self._face, _TOPIC, node.get_name())
        self._bond.set_heartbeat_period(period)
        self._bond.set_heartbeat_timeout(_NEVER_S)
        self._bond.start()

    def close(self) -> None:
        """Break it, which tells the other end, and free its topic, which `bondpy` does in part."""
        for subscription in self._face.subscriptions:
            self._node.destroy_subscription(subscription)
        try:
            self._bond.shutdown()
        except Exception:
            if self._node.context.ok():
                raise  # otherwise nobody can be told any more
        for publisher in self._face.publishers:
            self._node.destroy_publisher(publisher)


class _Face:
    """The node as `bondpy` sees it: what it creates is remembered, and waits for no QoS events.

    An executor of several threads fails where rclpy frees those events while it collects them.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.publishers: list[Any] = []
        self.subscriptions: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def create_publisher(self, *args: Any) -> Any:
        events = PublisherEventCallbacks(use_default_callbacks=False)
        self.publishers.append(self._node.create_publisher(*args, event_callbacks=events))
        return self.publishers[-1]

    def create_subscription(self, *args: Any) -> Any:
        events = SubscriptionEventCallbacks(use_default_callbacks=False)
        self.subscriptions.append(self._node.create_subscription(*args, event_callbacks=events))
        return self.subscriptions[-1]


def form_bond(node: Node, period: float) -> Bond | None:
    """Form the bond of a node that its manager has activated.

    Args:
        node: the node.
        period: seconds between heartbeats; 0: no bond.

    Returns:
        The bond; None where there is none, which is said if it was wanted.
    """
    if period == 0:
        return None
    try:
        from bondpy.bondpy import Bond as Kind
    except ImportError as error:
        logger.log(
            logging.INFO if period == BOND_PERIOD_S else logging.WARNING,
            'there is no bond with a lifecycle manager, as bondpy cannot be imported (%s): '
            'install ros-$ROS_DISTRO-bondpy, or give the manager bond_timeout: 0.0',
            one_line(error),
        )
        return None
    try:
        return Bond(node, Kind, period)
    except Exception as error:  # rclpy would say nothing of it, and the node is active
        logger.error('cannot form a bond with a lifecycle manager: %s', one_line(error))
        return None

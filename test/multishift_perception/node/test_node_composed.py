# SPDX-License-Identifier: Apache-2.0
"""The node beside others in an executor that is not its own, led by nav2's lifecycle manager."""

from __future__ import annotations

from collections.abc import Iterator
import sys
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

from lifecycle_msgs.msg import Transition
import pytest
import rclpy
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from multishift_perception.node.node import PerceptionNode

CAMERA = '/camera/image_raw'
LABELS = '/multishift_perception/camera/labels'


class Bond:
    """Stands in for the class of `bondpy`, which has no wheel: what the node uses of it.

    It sends from a thread of its own and leaves its topic with the node, as the real one does; a
    Header, for want of ``bond/msg/Status``, with what it is about.
    """

    def __init__(self, node: Any, topic: str, bond_id: str) -> None:
        self._node, self._topic, self._id = node, topic, bond_id
        self._ended = Event()
        self.pub = node.create_publisher(Header, topic, 1)

    def set_heartbeat_period(self, seconds: float) -> None:
        self._period = seconds

    def set_heartbeat_timeout(self, seconds: float) -> None:
        assert seconds > 3600

    def start(self) -> None:
        self.sub = self._node.create_subscription(Header, self._topic, lambda message: None, 1)
        self._thread = Thread(target=self._send_heartbeats)
        self._thread.start()

    def _send_heartbeats(self) -> None:
        while not self._ended.is_set():
            self._send('alive')
            self._ended.wait(self._period)

    def _send(self, word: str) -> None:
        self.pub.publish(Header(frame_id=f'{self._id} {word}'))

    def shutdown(self) -> None:
        self.sub.destroy()
        self._ended.set()
        self._thread.join()
        self._send('dead')
        self.pub.destroy()


@pytest.fixture
def bonds(peer, monkeypatch) -> Iterator[Any]:
    """What is said on the topic of bonds."""
    module = SimpleNamespace(Bond=Bond)
    monkeypatch.setitem(sys.modules, 'bondpy', SimpleNamespace(bondpy=module))
    monkeypatch.setitem(sys.modules, 'bondpy.bondpy', module)
    with peer.listen('/bond', Header) as inbox:
        yield inbox


@pytest.fixture(params=[SingleThreadedExecutor, MultiThreadedExecutor])
def composed(request, peer, tiny_bundle):
    """The node and another one in one process, which somebody else spins; the other one's news."""
    arguments = ['-p', f'engine_bundle:={tiny_bundle}', '-p', 'max_frame_age_ms:=5000']
    domain = peer.node.context.get_domain_id()
    rclpy.init(args=['--ros-args', *arguments], domain_id=domain)
    node, other = PerceptionNode(), rclpy.create_node('other')
    heard: list[Header] = []
    other.create_subscription(Header, 'heartbeat', heard.append, 10)
    executor = request.param()
    for one in (node, other):
        executor.add_node(one)
    thread = Thread(target=executor.spin)
    thread.start()
    yield heard
    executor.shutdown()
    thread.join(30)
    assert node.release()
    for one in (node, other):
        one.destroy_node()
    rclpy.shutdown()
    assert not thread.is_alive()


def lead(peer, transition: int, state: str) -> None:
    """Change the state as nav2's lifecycle manager does: ask, then see whether it is so."""
    assert peer.change_state(transition)
    assert peer.state() == state


def said(peer, bonds, word: str) -> bool:
    """Return whether one of the two words of a bond is heard next, and forget what was said."""
    peer.spin_until(lambda: bonds.messages)
    words = [message.frame_id for message in bonds.messages]
    bonds.messages.clear()
    return words[-1] == f'multishift_perception {word}'


def test_a_lifecycle_manager_leads_it_beside_another_node(composed, peer, filled, bonds):
    assert peer.state() == 'unconfigured'
    lead(peer, Transition.TRANSITION_CONFIGURE, 'inactive')
    assert peer.node.count_publishers('/bond') == 0
    lead(peer, Transition.TRANSITION_ACTIVATE, 'active')
    assert said(peer, bonds, 'alive')
    with peer.listen(LABELS, Image) as inbox:
        labels = peer.ask(CAMERA, filled((0, 0, 255)), inbox)
    assert set(labels.data) == {1}
    # What else the executor serves is served.
    beats = peer.publisher('/heartbeat', Header)
    beats.publish(Header(frame_id='still here'))
    peer.spin_until(lambda: composed)
    # Paused, resumed, and at the end shut down.
    bonds.messages.clear()
    lead(peer, Transition.TRANSITION_DEACTIVATE, 'inactive')
    assert said(peer, bonds, 'dead')
    peer.spin_until(lambda: peer.node.count_publishers('/bond') == 0)
    lead(peer, Transition.TRANSITION_ACTIVATE, 'active')
    assert said(peer, bonds, 'alive')
    lead(peer, Transition.TRANSITION_DEACTIVATE, 'inactive')
    lead(peer, Transition.TRANSITION_CLEANUP, 'unconfigured')
    lead(peer, Transition.TRANSITION_CONFIGURE, 'inactive')
    bonds.messages.clear()
    lead(peer, Transition.TRANSITION_ACTIVATE, 'active')
    assert said(peer, bonds, 'alive')
    lead(peer, Transition.TRANSITION_ACTIVE_SHUTDOWN, 'finalized')
    assert said(peer, bonds, 'dead')

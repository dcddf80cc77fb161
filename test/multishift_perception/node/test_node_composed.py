# SPDX-License-Identifier: Apache-2.0
"""The node beside others in an executor that is not its own, led by nav2's lifecycle manager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
import sys
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

from lifecycle_msgs.msg import Transition
import pytest
from rcl_interfaces.msg import Log
import rclpy
from rclpy.executors import (
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from multishift_perception.node.node import PerceptionNode
from multishift_perception.node.rclpy_private import destroy_states

# The first is brought up first.
MANAGED = '/other', '/multishift_perception'
EXECUTORS = [SingleThreadedExecutor, MultiThreadedExecutor]
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


class Manager:
    """Leads nodes by nav2's lifecycle manager's rules, which is in C++ and has no wheel.

    Up it goes through its list from the front, down from the back. It asks for a transition by its
    number, then whether the state is the one that it expects; with whom it has activated it forms
    a bond, which must be there in half of its timeout.
    """

    def __init__(self, peer: Any, bonds: Any) -> None:
        self._peer, self._bonds = peer, bonds

    def startup(self) -> None:
        self._up(Transition.TRANSITION_CONFIGURE, 'inactive')
        self.resume()

    def resume(self) -> None:
        self._bonds.messages.clear()
        self._up(Transition.TRANSITION_ACTIVATE, 'active')
        self.hear('alive')

    def pause(self) -> None:
        self._bonds.messages.clear()
        self._down(Transition.TRANSITION_DEACTIVATE, 'inactive')
        self.hear('dead')
        self._peer.spin_until(lambda: self._peer.node.count_publishers('/bond') == 0)

    def reset(self) -> None:
        self.pause()
        self._down(Transition.TRANSITION_CLEANUP, 'unconfigured')

    def shutdown(self) -> None:
        self.reset()
        self._down(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, 'finalized')

    def hear(self, word: str) -> None:
        """Wait for what is said on the topic of bonds, of which one end is the node's."""
        said = f'multishift_perception {word}'
        self._peer.spin_until(lambda: said in [m.frame_id for m in self._bonds.messages])

    def _up(self, transition: int, state: str) -> None:
        for node in MANAGED:
            self._lead(node, transition, state)

    def _down(self, transition: int, state: str) -> None:
        for node in reversed(MANAGED):
            self._lead(node, transition, state)

    def _lead(self, node: str, transition: int, state: str) -> None:
        assert self._peer.change_state(transition, node)
        assert self._peer.state(node) == state


@pytest.fixture(params=EXECUTORS)
def composed(request, peer, tiny_bundle):
    """The node and another one in one process, which somebody else spins; the other one's news."""
    arguments = ['-p', f'engine_bundle:={tiny_bundle}', '-p', 'max_frame_age_ms:=5000']
    domain = peer.node.context.get_domain_id()
    rclpy.init(args=['--ros-args', *arguments], domain_id=domain)
    node, other = PerceptionNode(), LifecycleNode('other')
    heard: list[Header] = []
    other.create_subscription(Header, 'heartbeat', heard.append, 10)
    executor = request.param()
    for one in (node, other):
        executor.add_node(one)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    thread = Thread(target=spin)
    thread.start()
    yield heard
    # As when a signal comes: nothing can be asked of the middleware any more.
    rclpy.shutdown()
    thread.join(30)
    assert not thread.is_alive()
    assert node.release()
    executor.shutdown()
    for one in (node, other):
        one.destroy_node()
    destroy_states(other)
    for name in MANAGED:
        peer.see_off(name)


def test_a_lifecycle_manager_leads_it_beside_another_node(composed, peer, filled, bonds):
    manager = Manager(peer, bonds)
    with peer.listen(LABELS, Image) as labels, peer.listen('/rosout', Log) as log:

        def sees() -> bool:
            return set(peer.ask(CAMERA, filled((0, 0, 255)), labels).data) == {1}

        assert peer.node.count_publishers('/bond') == 0
        manager.startup()
        assert sees()
        # What else the executor serves is served, and the process's log has the node's.
        beats = peer.publisher('/heartbeat', Header)
        beats.publish(Header(frame_id='still here'))
        peer.spin_until(lambda: composed)
        peer.spin_until(lambda: ('multishift_perception', 'active') in said_in(log))
        manager.pause()
        manager.resume()
        assert sees()
        # Where a bond breaks, whosever it is, all are reset and brought up anew.
        manager.reset()
        manager.startup()
        assert sees()
    manager.shutdown()


@pytest.mark.parametrize('composed', EXECUTORS[:1], indirect=True)
def test_a_node_that_is_active_when_the_process_ends_is_freed(composed, peer, bonds):
    Manager(peer, bonds).startup()


def said_in(log: Any) -> set[tuple[str, str]]:
    return {(entry.name, entry.msg) for entry in log.messages}

# SPDX-License-Identifier: Apache-2.0
"""The node beside others in an executor that is not its own, led by nav2's lifecycle manager."""

from __future__ import annotations

from threading import Thread

from lifecycle_msgs.msg import Transition
import pytest
import rclpy
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from multishift_perception.node.node import PerceptionNode

CAMERA = '/camera/image_raw'
LABELS = '/multishift_perception/camera/labels'


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


def test_a_lifecycle_manager_leads_it_beside_another_node(composed, peer, filled):
    assert peer.state() == 'unconfigured'
    lead(peer, Transition.TRANSITION_CONFIGURE, 'inactive')
    lead(peer, Transition.TRANSITION_ACTIVATE, 'active')
    with peer.listen(LABELS, Image) as inbox:
        labels = peer.ask(CAMERA, filled((0, 0, 255)), inbox)
    assert set(labels.data) == {1}
    # What else the executor serves is served.
    beats = peer.publisher('/heartbeat', Header)
    beats.publish(Header(frame_id='still here'))
    peer.spin_until(lambda: composed)
    # Paused, resumed, and at the end shut down.
    lead(peer, Transition.TRANSITION_DEACTIVATE, 'inactive')
    lead(peer, Transition.TRANSITION_ACTIVATE, 'active')
    lead(peer, Transition.TRANSITION_DEACTIVATE, 'inactive')
    lead(peer, Transition.TRANSITION_CLEANUP, 'unconfigured')
    lead(peer, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, 'finalized')

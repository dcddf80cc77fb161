# SPDX-License-Identifier: Apache-2.0
"""One camera's input by itself, in this process, with a publisher of the peer."""

from __future__ import annotations

from dataclasses import replace
import os
import time
from typing import Any

import pytest
import rclpy
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from multishift_perception.node import rcl
from multishift_perception.node.arrivals import Arrivals
from multishift_perception.node.camera_input import CameraInput
from multishift_perception.node.parameters import CameraSettings

TOPIC = '/deep/image_raw'


@pytest.fixture(params=[1, 5], ids=['depth 1', 'depth 5'])
def node(request, peer):
    depth = Parameter(f'qos_overrides.{TOPIC}.subscription.depth', value=request.param)
    node = rclpy.create_node('deep', context=peer.node.context, parameter_overrides=[depth])
    yield node
    node.destroy_node()


class Counts:
    def __init__(self) -> None:
        self.received: list[int] = []
        self.lost: list[int] = []


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def source(node, counts):
    arrivals = Arrivals()
    settings = CameraSettings(name='deep', image_topic=TOPIC, transport='raw')
    source = CameraInput(node, settings, arrivals, counts.received.append, counts.lost.append)
    source.watch(images=True, infos=False)
    yield source
    source.watch(images=False, infos=False)
    arrivals.close()


def send(peer, filled, numbers):
    publisher = peer.publisher(TOPIC, Image)
    for number in numbers:
        message = filled((0, 0, number))
        message.header.stamp.sec = number
        publisher.publish(message)


def test_the_newest_frame_is_taken_and_all_are_counted(peer, filled, source, counts):
    send(peer, filled, [1])
    peer.spin_until(lambda: sum(counts.received) == 1)
    assert source.take().message.header.stamp.sec == 1
    send(peer, filled, [2, 3, 4])
    peer.spin_until(lambda: sum(counts.received) == 4)
    before = time.monotonic()
    arrival: Any = source.take()
    assert arrival.message.header.stamp.sec == 4
    assert bytes(arrival.message.data[:3]) == bytes((0, 0, 4))
    assert arrival.received_at < before  # when it came, not when it was taken
    assert source.take() is None
    assert not counts.lost


def test_a_gap_in_the_numbers_that_nobody_received_is_a_loss(peer, filled, source, counts):
    send(peer, filled, [1])
    peer.spin_until(lambda: counts.received)
    source.take()
    source._images._lost.receive(-2)  # as if two less had come of those that follow
    send(peer, filled, [2, 3, 4])
    peer.spin_until(lambda: sum(counts.received) == 4)
    source.take()
    assert counts.lost == [2]


@pytest.mark.parametrize('told', [0, 1])
def test_a_frame_that_comes_while_one_is_taken_is_received_and_those_before_it_are_lost(
    peer, filled, source, counts, monkeypatch, told
):
    send(peer, filled, [1])
    peer.spin_until(lambda: counts.received)
    take, images = rcl.take, source._images

    def coming(subscription):
        image = take(subscription)
        if image is None:
            return None
        if told:
            images._receive(told)
        return replace(image, number=image.number + 4, received_ns=time.time_ns() + 1)

    source.take()
    send(peer, filled, [2])
    peer.spin_until(lambda: sum(counts.received) == 2)
    images._lost.receive(-1)  # as if nothing had been told of it
    counts.received[:] = [1]
    monkeypatch.setattr(rcl, 'take', coming)
    source.take()
    assert (sum(counts.received), counts.lost) == (2, [4])


def test_nothing_is_taken_that_is_not_watched(peer, filled, source, counts):
    send(peer, filled, [1])
    peer.spin_until(lambda: counts.received)
    source.watch(images=False, infos=False)
    assert source.take() is None
    source.watch(images=True, infos=False)
    assert source.take() is None


@pytest.mark.parametrize('moment', ['before it is taken', 'after'])
def test_who_ceases_to_watch_while_a_frame_is_taken_harms_nobody(
    peer, filled, source, counts, monkeypatch, moment
):
    send(peer, filled, [1])
    peer.spin_until(lambda: counts.received)
    take = rcl.take

    def unwatched(subscription):
        image = take(subscription) if moment == 'after' else None
        source.watch(images=False, infos=False)
        return image or take(subscription)

    monkeypatch.setattr(rcl, 'take', unwatched)
    assert source.take() is None
    source.watch(images=True, infos=False)


def test_what_cannot_be_subscribed_leaves_nothing_behind(peer):
    deaf = Parameter(f'qos_overrides.{TOPIC[:5]}/camera_info.subscription.depth', value=-3)
    node = rclpy.create_node('leaver', context=peer.node.context, parameter_overrides=[deaf])
    arrivals = Arrivals()
    before = [*node.subscriptions], len(os.listdir('/proc/self/fd'))
    settings = CameraSettings(name='deep', image_topic=TOPIC, transport='raw')
    with pytest.raises(RuntimeError):
        CameraInput(node, settings, arrivals, lambda _: None, lambda _: None)
    assert ([*node.subscriptions], len(os.listdir('/proc/self/fd'))) == before
    arrivals.close()
    node.destroy_node()


def test_a_fault_of_the_middleware_is_said_and_survived(
    peer, source, counts, filled, monkeypatch, caplog
):
    def fail(_):
        raise RuntimeError('bad alloc')

    monkeypatch.setattr(rclpy, 'ok', lambda: True)
    with monkeypatch.context() as patch:
        patch.setattr(rcl, 'take', fail)
        assert source.take() is None
    assert 'cannot be taken' in caplog.text
    send(peer, filled, [1])
    peer.spin_until(lambda: counts.received)
    assert source.take() is not None

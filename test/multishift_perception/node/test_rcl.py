# SPDX-License-Identifier: Apache-2.0
"""Images that rclpy sends and we take, that we send and rclpy takes, and who counts them."""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace

from builtin_interfaces.msg import Time
import numpy as np
import pytest
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import InvalidHandle
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from multishift_perception.errors import MultishiftError
from multishift_perception.node import rcl
from multishift_perception.node.arrivals import Arrivals, Untaken
from multishift_perception.node.messages import ReusedImage


@pytest.fixture
def untaken(peer):
    """Subscribes without taking; what subscribes is gone afterwards."""
    made = []

    def subscribe(kind, topic='/images'):
        made.append(
            peer.node.create_subscription(
                kind,
                topic,
                lambda _: None,
                1,
                callback_group=Untaken(),
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            )
        )
        return made[-1]

    yield subscribe
    for subscription in made:
        peer.node.destroy_subscription(subscription)


@pytest.fixture
def arrivals():
    arrivals = Arrivals()
    yield arrivals
    arrivals.close()


def taken(peer, subscription, publisher, message):
    def one():
        publisher.publish(message)
        peer.spin(0.02)
        return rcl.take(subscription)

    return peer.spin_until(one)


def test_an_image_is_taken_as_it_was_sent(peer, filled, untaken):
    subscription = untaken(Image)
    publisher = peer.publisher('/images', Image)
    message = filled((1, 2, 3))
    message.header.stamp.sec, message.header.stamp.nanosec = -5, 999_999_999
    message.header.frame_id, message.encoding = 'vorn_ü', 'rgb8'
    message.is_bigendian = 1
    image = taken(peer, subscription, publisher, message)
    for field in ('header', 'height', 'width', 'encoding', 'is_bigendian', 'step'):
        assert getattr(image, field) == getattr(message, field)
    assert image.data == memoryview(message.data)
    assert image.data.readonly
    assert image.received_ns > 0
    after = taken(peer, subscription, publisher, filled((4, 5, 6), height=1, width=1))
    assert after.number > image.number
    assert bytes(after.data) == bytes((4, 5, 6))
    assert image.data == memoryview(message.data)  # still its own


def test_bytes_outlive_their_image(peer, filled, untaken):
    subscription = untaken(Image)
    publisher = peer.publisher('/images', Image)
    data = taken(peer, subscription, publisher, filled((7, 8, 9), height=400, width=400)).data
    pixels = np.frombuffer(data, np.uint8)
    del data
    for _ in range(3):
        taken(peer, subscription, publisher, filled((0, 0, 0), height=400, width=400))
    assert (pixels.reshape(-1, 3) == (7, 8, 9)).all()


@pytest.mark.parametrize('data', [b'', bytes(range(256))])
def test_a_compressed_image_is_taken_as_it_was_sent(peer, untaken, data):
    subscription = untaken(CompressedImage, '/compressed')
    publisher = peer.publisher('/compressed', CompressedImage)
    message = CompressedImage(header=Header(frame_id='f'), format='jpeg', data=data)
    image = taken(peer, subscription, publisher, message)
    assert (image.header, image.format, bytes(image.data)) == (message.header, 'jpeg', data)


def test_there_may_be_nothing_to_take(peer, untaken):
    subscription = untaken(Image, '/nothing')
    assert rcl.take(subscription) is None
    subscription.destroy()
    with pytest.raises(InvalidHandle):
        rcl.take(subscription)


@pytest.mark.parametrize(
    ('encoding', 'dtype', 'channels'),
    [('mono8', 'u1', ()), ('rgb8', 'u1', (3,)), ('32FC1', 'f4', ())],
)
def test_an_image_is_sent_as_it_is(peer, encoding, dtype, channels):
    publisher = peer.node.create_publisher(Image, f'/sent_{encoding}', 1)
    header = Header(frame_id='camera')
    header.stamp.sec, header.stamp.nanosec = 2**31 - 1, 5
    reused = ReusedImage(encoding)
    with peer.listen(f'/sent_{encoding}', Image) as inbox:
        peer.spin_until(publisher.get_subscription_count)
        for size in ((3, 4), (3, 4), (5, 2)):
            pixels = reused.pixels(size)
            pixels[...] = np.random.default_rng(0).integers(0, 256, (*size, *channels))
            reused.publish(publisher, header)
            pixels_sent = pixels.copy()
            pixels[...] = 0
            message = peer.spin_until(lambda: inbox.messages and inbox.messages.pop())
            assert message.header == header
            assert (message.height, message.width, message.encoding) == (*size, encoding)
            assert message.step * size[0] == len(message.data) == pixels.nbytes
            sent = np.frombuffer(message.data, np.dtype(dtype)).reshape(pixels.shape)
            np.testing.assert_array_equal(sent, pixels_sent)
    peer.node.destroy_publisher(publisher)


def test_a_publisher_that_is_gone_is_a_fault(peer):
    publisher = peer.node.create_publisher(Image, '/gone', 1)
    peer.node.destroy_publisher(publisher)
    reused = ReusedImage('mono8')
    reused.pixels((2, 2))
    with pytest.raises(RuntimeError):
        reused.publish(publisher, Header())


def test_pixels_with_gaps_are_refused(peer):
    with pytest.raises(ValueError, match='gaps'):
        rcl.OutgoingImage('mono8').publish(None, Header(), np.zeros((4, 4), np.uint8)[:, ::2])


def test_frames_are_counted_without_being_taken(peer, filled, untaken, arrivals):
    subscription = untaken(Image)
    counts: list[int] = []
    publisher = peer.publisher('/images', Image)
    counter = arrivals.count(subscription, counts.append)
    for _ in range(5):
        publisher.publish(filled((1, 2, 3)))
        peer.spin(0.02)
    peer.spin_until(lambda: sum(counts) == 5)
    assert rcl.take(subscription) is not None
    assert rcl.take(subscription) is None  # a depth of one holds the newest
    arrivals.forget(counter)
    publisher.publish(filled((1, 2, 3)))
    peer.spin(0.1)
    counter.read()
    assert sum(counts) == 5


def test_no_descriptor_stays_open(peer, untaken):
    subscription = untaken(Image)
    before = len(os.listdir('/proc/self/fd'))
    for _ in range(3):
        arrivals = Arrivals()
        arrivals.forget(arrivals.count(subscription, lambda _: None))
        arrivals.close()
    assert len(os.listdir('/proc/self/fd')) == before


def test_the_layout_is_checked(monkeypatch):
    rcl.check()
    with monkeypatch.context() as patch:
        patch.setitem(rcl._LAYOUTS, Image, rcl._LAYOUTS[CompressedImage])
        with pytest.raises(MultishiftError, match='Jazzy or Kilted'):
            rcl.check()
    monkeypatch.setattr(rcl._type_support(Image), 'read', lambda address: Image())
    with pytest.raises(MultishiftError, match='Image is read otherwise'):
        rcl.check()


def test_a_sent_image_leaves_its_structure_as_ros_made_it():
    image = rcl.OutgoingImage('mono8')
    before = bytes(image._image)
    with image.filled(Header(frame_id='f'), np.zeros((2, 3), np.uint8)):
        assert bytes(image._image) != before
    assert bytes(image._image) == before


def test_texts_that_are_none_are_replaced_and_end_at_a_nul(peer, untaken):
    """As rclpy has it."""
    subscription = untaken(Image, '/texts')
    publisher = peer.publisher('/texts', Image)
    odd = SimpleNamespace(stamp=Time(), frame_id=SimpleNamespace(encode=lambda: b'\xffa\0b'))

    def one():
        rcl.OutgoingImage('mono8').publish(publisher, odd, np.zeros((0, 0), np.uint8))
        peer.spin(0.02)
        return rcl.take(subscription)

    image = peer.spin_until(one)
    assert image.header.frame_id == '\N{REPLACEMENT CHARACTER}a'
    assert (image.height, image.width, bytes(image.data)) == (0, 0, b'')


def test_a_middleware_that_tells_of_nothing_is_said(untaken, monkeypatch):
    subscription = untaken(Image, '/untold')
    silent = SimpleNamespace(rcl_subscription_set_on_new_message_callback=lambda *_: 3)
    monkeypatch.setattr(rcl, '_rcl', lambda: silent)
    with pytest.raises(MultishiftError, match='rmw_.* does not tell of new .* RMW_IMPLEMENTATION'):
        rcl.count_messages(subscription, 0)


def test_a_library_without_the_functions_is_said(monkeypatch):
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: SimpleNamespace())
    rcl._rcl.cache_clear()
    with pytest.raises(MultishiftError, match='rcl_take'):
        rcl.check()

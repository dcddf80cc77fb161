# SPDX-License-Identifier: Apache-2.0
"""The page's feed of a real node, over DDS."""

from __future__ import annotations

import asyncio

import pytest
from sensor_msgs.msg import Image
import simplejpeg

from multishift_perception.errors import MultishiftError
from multishift_perception.outputs import NODE
from multishift_perception.view.board import Board
from multishift_perception.view.feed import Level
from multishift_perception.view.pictures import PictureKind

GREY = (128, 128, 128)
TOPIC = '/front/image_raw'
TIMEOUT_S = 20


@pytest.fixture(scope='module')
def node(start_node, tiny_bundle, peer):
    # The machine that runs the tests may be slow.
    node = start_node(
        engine_bundle=tiny_bundle,
        camera_names='[front, rear]',
        max_frame_age_ms=5000,
        # One that asks for more than is offered gets nothing.
        **{f'qos_overrides.{NODE}/front/labels.publisher.reliability': 'best_effort'},
    )
    peer.status('engine', lambda _, values: values['state'] == 'active')
    yield node
    assert node.stop() == 0, node.log


def outputs_watched(peer):
    """The outputs of the camera that somebody subscribes to."""
    return {
        name.rpartition('front/')[2]
        for name, _ in peer.node.get_topic_names_and_types()
        if f'{NODE}/front/' in name and peer.node.count_subscribers(name)
    }


def test_a_node_is_shown_while_somebody_looks(node, peer, filled, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(peer.node.context.get_domain_id()))
    from multishift_perception.view.ros_feed import RosFeed

    now = 0.0
    board = Board(clock=lambda: now)
    feed = RosFeed(NODE, board)
    feed.start()
    message = filled(GREY)
    publisher = peer.node.create_publisher(Image, TOPIC, 1)

    def send():
        message.header.stamp = peer.now()
        publisher.publish(message)
        peer.spin(0.02)

    async def picture(kind, shown=lambda grey: True):
        async with asyncio.timeout(TIMEOUT_S):
            with board.watching('front', kind) as viewer:
                while True:
                    send()
                    try:
                        found = await asyncio.wait_for(viewer.next(), 0.05)
                    except TimeoutError:
                        continue
                    pixels = simplejpeg.decode_jpeg(found, 'GRAY')
                    assert pixels.shape == (48, 64, 1)
                    if shown(int(pixels.mean())):
                        return found

    async def scenario():
        nonlocal now
        # Names come with the diagnostics, and nothing else is subscribed to.
        peer.spin_until(lambda: {c.name for c in feed.cameras()} == {'front', 'rear'})
        assert feed.notice().level is Level.OK
        peer.spin_until(lambda: feed.notice() and feed.threshold == 0.5)
        assert not outputs_watched(peer)
        for kind in PictureKind:
            assert await picture(kind)
        # Grey is just above the operating point.
        assert await picture(PictureKind.MASK, lambda grey: grey > 250)
        await feed.set_threshold(0.9)
        assert await picture(PictureKind.MASK, lambda grey: grey < 5)
        with pytest.raises(MultishiftError, match='anomaly_threshold out of range'):
            await feed.set_threshold(7.0)
        assert feed.threshold == 0.9
        await feed.set_threshold(0.25)
        board.ask_list('front')

        def listed():
            send()
            board.ask_list('front')
            return feed.cameras()[0].regions

        (region,) = peer.spin_until(listed)
        assert (region.box, feed.cameras()[0].size) == ((0, 0, 64, 48), (64, 48))
        assert 0.45 < region.mean_score < 0.55
        state = peer.spin_until(lambda: feed.cameras()[0].processed and feed.cameras()[0])
        assert state.age < TIMEOUT_S
        assert {'stale', 'superseded', 'broken'} <= state.dropped.keys()
        now = 60.0  # nobody has read it for long
        peer.spin_until(lambda: feed.cameras()[0].regions is None)
        peer.spin_until(lambda: not outputs_watched(peer))

    try:
        asyncio.run(scenario())
    finally:
        feed.close()
    with pytest.raises(MultishiftError, match='does not answer|is not there'):
        other = RosFeed('/nobody', board)
        other.start()
        try:
            assert other.notice().level is Level.STALE
            asyncio.run(other.set_threshold(0.5))
        finally:
            other.close()

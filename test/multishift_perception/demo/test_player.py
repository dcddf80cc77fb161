# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy')

from rosbags.typesys import Stores, get_typestore

from multishift_perception import bags
from multishift_perception.demo.player import play, wait_for_subscribers
from multishift_perception.errors import MultishiftError

TOPIC = '/front/image_raw'
RATE = 50


class FakePublisher:
    """Takes serialised messages; the subscriber appears after some questions."""

    def __init__(self, questions: int = 0) -> None:
        self.sent: list[tuple[float, bytes]] = []
        self.questions = questions

    def publish(self, cdr: bytes) -> None:
        self.sent.append((time.monotonic(), cdr))

    def get_subscription_count(self) -> int:
        self.questions -= 1
        return int(self.questions < 0)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    path = tmp_path / 'in.mcap'
    with bags.BagWriter(path) as writer:
        for i in range(10):
            stamp = bags.EPOCH_NS + i * 1_000_000_000 // RATE
            writer.image(TOPIC, stamp, 'front', np.full((2, 3, 3), i, np.uint8))
            writer.image('/left/image_raw', stamp, 'left', np.zeros((2, 3, 3), np.uint8))
    return path


def test_plays_at_the_pace_of_the_bag_with_stamps_of_now(bag: Path) -> None:
    publisher = FakePublisher()
    before = time.time_ns()
    with bags.BagReader(bag) as reader:
        played = play(reader, [TOPIC], {TOPIC: publisher})
    after = time.time_ns()
    images: list[Any] = [
        get_typestore(Stores.ROS2_JAZZY).deserialize_cdr(cdr, bags.IMAGE)
        for _, cdr in publisher.sent
    ]
    assert played.sent == {TOPIC: 10}
    assert [image.data[0] for image in images] == list(range(10))
    stamps = [bags.stamp_ns(image) for image in images]
    assert np.diff(stamps).tolist() == [1_000_000_000 // RATE] * 9
    assert stamps[0] == bags.EPOCH_NS + played.offset_ns
    assert before <= stamps[0] <= stamps[-1] <= after
    assert after - before >= 9 * 1_000_000_000 // RATE


def test_nothing_to_play_is_an_error(tmp_path: Path) -> None:
    with bags.BagWriter(tmp_path / 'empty.mcap') as writer:
        writer.string('/note', 0, 'no image')
    with bags.BagReader(tmp_path / 'empty.mcap') as reader:
        with pytest.raises(MultishiftError, match=r'no topic .*image_raw.*the bag has: /note'):
            play(reader, [TOPIC], {})


def test_waits_for_every_subscriber() -> None:
    late = FakePublisher(questions=3)
    wait_for_subscribers({'a': FakePublisher(), 'b': late}, patience_s=10)
    assert late.questions < 0


def test_names_the_topic_that_nobody_reads() -> None:
    with pytest.raises(MultishiftError, match='b: no subscriber within 0 s'):
        wait_for_subscribers({'a': FakePublisher(), 'b': FakePublisher(10)}, patience_s=0)

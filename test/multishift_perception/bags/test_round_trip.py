# SPDX-License-Identifier: Apache-2.0
"""Bags: what is written is read back, by us and by rosbags, and is whole or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from multishift_perception import bags
from multishift_perception.errors import MultishiftError

SECOND = 1_000_000_000


def write_sample(path: Path, frames: int = 3) -> None:
    with bags.BagWriter(path) as bag:
        for i in range(frames):
            pixels = np.full((4, 6, 3), i, np.uint8)
            bag.image('/front/image_raw', i * SECOND, 'front_optical_frame', pixels)
            bag.camera_info(
                '/front/camera_info',
                i * SECOND,
                'front_optical_frame',
                width=6,
                height=4,
                focal=(5.0, 5.5),
                centre=(3.0, 2.0),
            )
            bag.string('/front/ground_truth/condition', i * SECOND, 'fog')


def test_messages_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / 'a.mcap'
    write_sample(path)

    with bags.BagReader(path) as reader:
        assert reader.topics == {
            '/front/camera_info': bags.CAMERA_INFO,
            '/front/ground_truth/condition': bags.STRING,
            '/front/image_raw': bags.IMAGE,
        }
        assert reader.count() == 9
        assert reader.count(['/front/image_raw']) == 3
        assert reader.duration == 2.0
        images = [m for _, m, _ in reader.messages(['/front/image_raw'])]
        ((_, info, _), *_) = reader.messages(['/front/camera_info'])
        texts = [m.data for _, m, _ in reader.messages(['/front/ground_truth/condition'])]

    assert [bags.stamp_ns(m) for m in images] == [0, SECOND, 2 * SECOND]
    assert (images[2].encoding, images[2].step, images[2].data[0]) == ('rgb8', 18, 2)
    assert images[0].header.frame_id == 'front_optical_frame'
    assert info.k.tolist() == [5.0, 0, 3.0, 0, 5.5, 2.0, 0, 0, 1]
    assert info.p.tolist() == [5.0, 0, 3.0, 0, 0, 5.5, 2.0, 0, 0, 0, 1, 0]
    assert texts == ['fog'] * 3


def test_an_uncalibrated_camera_has_a_zero_matrix(tmp_path: Path) -> None:
    with bags.BagWriter(tmp_path / 'a.mcap') as bag:
        bag.camera_info('/c/camera_info', 0, 'c', width=6, height=4)

    with bags.BagReader(tmp_path / 'a.mcap') as reader:
        ((_, info, _),) = reader.messages()
    assert (info.width, info.height) == (6, 4)
    assert not info.k.any()
    assert not info.p.any()
    assert info.distortion_model == ''


@pytest.mark.parametrize(
    ('pixels', 'encoding'),
    [
        (np.arange(6, dtype=np.uint8).reshape(2, 3), 'mono8'),
        (np.arange(6, dtype=np.float32).reshape(2, 3), '32FC1'),
        (np.arange(36, dtype=np.uint8).reshape(2, 6, 3)[:, ::2], 'rgb8'),
    ],
)
def test_pixels_are_stored_without_padding(
    tmp_path: Path, pixels: np.ndarray, encoding: str
) -> None:
    with bags.BagWriter(tmp_path / 'a.mcap') as bag:
        bag.image('/c/image_raw', 5, 'c', pixels)

    with bags.BagReader(tmp_path / 'a.mcap') as reader:
        ((_, image, time),) = reader.messages()
    assert time == 5
    assert image.encoding == encoding
    assert bytes(image.data) == pixels.tobytes()


def test_the_bytes_depend_on_the_content_only(tmp_path: Path) -> None:
    write_sample(tmp_path / 'a.mcap')
    write_sample(tmp_path / 'other name.mcap')

    first, second = (p.read_bytes() for p in sorted(tmp_path.iterdir()))
    assert first == second


def test_a_moved_bag_is_self_contained_for_rosbags(tmp_path: Path) -> None:
    write_sample(tmp_path / 'a.mcap')
    moved = (tmp_path / 'a.mcap').rename(tmp_path / 'b.mcap')

    with AnyReader([moved]) as reader:  # types come from the schemas inside the bag
        assert {c.msgtype for c in reader.connections} == {
            bags.IMAGE,
            bags.CAMERA_INFO,
            bags.STRING,
        }
        for connection, _, data in reader.messages():
            reader.deserialize(data, connection.msgtype)


def test_an_error_leaves_the_old_bag(tmp_path: Path) -> None:
    path = tmp_path / 'a.mcap'
    write_sample(path)
    before = path.read_bytes()

    with pytest.raises(RuntimeError), bags.BagWriter(path) as bag:
        bag.string('/x', 0, 'half')
        raise RuntimeError

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_raw_messages_are_copied_byte_for_byte(tmp_path: Path) -> None:
    write_sample(tmp_path / 'a.mcap')
    with (
        bags.BagReader(tmp_path / 'a.mcap') as reader,
        bags.BagWriter(tmp_path / 'b.mcap') as writer,
    ):
        for message in reader.raw_messages():
            writer.raw(*message)

    assert (tmp_path / 'a.mcap').read_bytes() == (tmp_path / 'b.mcap').read_bytes()


def test_sqlite_directories_and_bare_files_are_read(tmp_path: Path) -> None:
    types = get_typestore(Stores.ROS2_JAZZY)
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection('/t', bags.STRING, typestore=types)
        data = types.serialize_cdr(types.types[bags.STRING](data='hello'), bags.STRING)
        writer.write(connection, 7, data)

    for path in (tmp_path / 'bag', tmp_path / 'bag' / 'bag.db3'):
        with bags.BagReader(path) as reader:
            ((topic, message, time),) = reader.messages()
        assert (topic, message.data, time) == ('/t', 'hello', 7)


def open_and_read(path: Path) -> None:
    with bags.BagReader(path) as reader:
        list(reader.messages())


def test_a_bag_damaged_inside_is_a_clear_error(tmp_path: Path) -> None:
    write_sample(tmp_path / 'a.mcap')
    data = bytearray((tmp_path / 'a.mcap').read_bytes())
    # The length of the first record inside the first chunk.
    data[100:4000] = b'\xff' * 3900
    (tmp_path / 'a.mcap').write_bytes(data)

    with pytest.raises(MultishiftError, match='damaged'):
        open_and_read(tmp_path / 'a.mcap')


def test_an_unknown_topic_is_named_with_those_there_are(tmp_path: Path) -> None:
    write_sample(tmp_path / 'a.mcap')
    with (
        bags.BagReader(tmp_path / 'a.mcap') as reader,
        pytest.raises(MultishiftError, match=r"'/rear'; the bag has: /front/camera_info, .*"),
    ):
        list(reader.messages(['/rear']))


def test_image_topics_are_those_of_cameras(tmp_path: Path) -> None:
    types = get_typestore(Stores.ROS2_JAZZY)
    empty = types.types[bags.COMPRESSED_IMAGE](
        header=bags.header(0, ''), format='jpeg', data=np.zeros(0, np.uint8)
    )
    compressed = bytes(types.serialize_cdr(empty, bags.COMPRESSED_IMAGE))
    pixels = np.zeros((2, 2), np.uint8)
    with bags.BagWriter(tmp_path / 'a.mcap') as bag:
        bag.image('/front/image_raw', 0, '', pixels)
        bag.raw('/front/image_raw/compressed', bags.COMPRESSED_IMAGE, compressed, 0)
        bag.raw('/rear/image_raw/compressed', bags.COMPRESSED_IMAGE, compressed, 0)
        bag.image('/front/ground_truth/labels', 0, '', pixels)
        bag.image('/multishift_perception/front/anomaly_mask', 0, '', pixels)
        bag.raw('/node/front/overlay/compressed', bags.COMPRESSED_IMAGE, compressed, 0)

    with bags.BagReader(tmp_path / 'a.mcap') as reader:
        assert bags.image_topics(reader) == {
            '/front/image_raw': bags.IMAGE,
            '/rear/image_raw/compressed': bags.COMPRESSED_IMAGE,
        }
    assert bags.camera_of('/rear/image_raw/compressed') == 'rear'
    assert bags.camera_of('/car/front/image_raw') == 'car/front'
    assert bags.camera_of('/image') == 'image'

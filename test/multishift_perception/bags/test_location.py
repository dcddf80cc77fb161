# SPDX-License-Identifier: Apache-2.0
"""What is no rosbag2 bag is told which command makes one of it."""

from __future__ import annotations

from pathlib import Path
import shlex
import subprocess
import sys

from mcap.writer import Writer as McapWriter
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from multishift_perception import bags
from multishift_perception.errors import MultishiftError
from multishift_perception.fleet.sources import find_bags


def refused(path: Path) -> str:
    with pytest.raises(MultishiftError) as caught, bags.BagReader(path):
        pass
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_paths_that_are_no_bags_are_named(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('x')
    assert 'gone.mcap: no such bag' in refused(tmp_path / 'gone.mcap')
    assert 'notes.txt: not a rosbag2 bag' in refused(tmp_path / 'notes.txt')
    assert 'without metadata.yaml and without a .mcap or .db3 file' in refused(tmp_path)
    (tmp_path / 'x.mcap').write_text('something else')
    assert 'begins neither as MCAP nor as SQLite' in refused(tmp_path / 'x.mcap')
    with pytest.raises(MultishiftError, match=r'must end in \.mcap'):
        bags.BagWriter(tmp_path / 'bag')


def write_ros1(path: Path) -> None:
    types = get_typestore(Stores.ROS1_NOETIC)
    kinds = types.types
    with Ros1Writer(path) as writer:
        connection = writer.add_connection('/c/image_raw', bags.IMAGE, typestore=types)
        image = kinds[bags.IMAGE](
            header=kinds['std_msgs/msg/Header'](
                seq=3, stamp=kinds['builtin_interfaces/msg/Time'](sec=5, nanosec=6), frame_id='c'
            ),
            height=2,
            width=2,
            encoding='mono8',
            is_bigendian=0,
            step=2,
            data=np.arange(4, dtype=np.uint8),
        )
        writer.write(connection, 7, bytes(types.serialize_ros1(image, bags.IMAGE)))


def test_a_ros1_bag_is_told_the_command_that_converts_it(tmp_path: Path) -> None:
    bag = tmp_path / 'my drive.bag'
    write_ros1(bag)
    error = refused(bag)
    command, *arguments = shlex.split(error.partition('convert it: ')[2])
    assert command == 'rosbags-convert'
    subprocess.run([str(Path(sys.executable).with_name(command)), *arguments], check=True)
    with bags.BagReader(tmp_path / 'my drive_ros2') as reader:
        ((topic, image, time),) = reader.messages(list(bags.image_topics(reader)))
    assert (topic, bags.stamp_ns(image), time) == ('/c/image_raw', 5_000_000_006, 7)
    assert bags.mono8(image, topic).tolist() == [[0, 1], [2, 3]]
    # Whatever its name is.
    assert 'rosbags-convert' in refused(bag.rename(tmp_path / 'drive.bag.active'))
    assert 'rosbags-convert' in refused((tmp_path / 'drive.bag.active').rename(tmp_path / 'x.db3'))


def test_ros1_messages_in_an_mcap_are_told_from_those_of_ros2(tmp_path: Path) -> None:
    path = tmp_path / 'a.mcap'
    with path.open('wb') as file:
        writer = McapWriter(file)
        writer.start(profile='ros1')
        schema = writer.register_schema(bags.IMAGE, 'ros1msg', b'')
        channel = writer.register_channel('/c/image_raw', 'ros1', schema)
        writer.add_message(channel, 1, bytes(20), 1)
        writer.finish()
    error = refused(path)
    assert 'holds messages of ROS 1' in error
    assert f'rosbags-convert --src {path.with_suffix(".bag")} --dst ' in error


def test_images_and_videos_are_told_how_to_become_a_bag(tmp_path: Path) -> None:
    frames = tmp_path / 'my frames'
    (frames / 'day').mkdir(parents=True)
    (frames / 'day' / '1.webp').touch()
    command = f"multishift make-bag '{frames}' '{frames}.mcap'"
    predict = f"multishift predict '{frames}' --out predictions"
    assert (
        f'a folder of images, no bag; see what an engine says of them: {predict}; or make a bag '
        f'of the folder: {command}'
    ) in refused(frames)
    photo = frames / 'day' / '1.webp'
    error = refused(photo)
    assert (
        f"an image, no bag; see what an engine says of it: multishift predict '{photo}' " in error
    )
    assert f"multishift make-bag '{frames}/day'" in error
    # `multishift replay` is told so where it is given one source, and here where several.
    with pytest.raises(MultishiftError, match='multishift predict'):
        find_bags([str(photo), str(photo)])
    video = tmp_path / 'drive.MP4'
    video.touch()
    error = refused(video)
    assert f'a video, no bag; see what an engine says of it: multishift predict {video} ' in error
    assert f'ffmpeg -i {video} {tmp_path}/drive/%06d.png' in error
    assert f'multishift make-bag {tmp_path}/drive {tmp_path}/drive.mcap' in error


def test_a_bag_without_images_lists_its_topics_and_their_types(tmp_path: Path) -> None:
    with bags.BagWriter(tmp_path / 'a.mcap') as writer:
        writer.string('/x', 0, 'no camera')
        writer.camera_info('/c/camera_info', 0, 'c', width=1, height=1)
    with bags.BagReader(tmp_path / 'a.mcap') as reader:
        with pytest.raises(MultishiftError) as caught:
            bags.image_topics(reader)
    assert 'no image topic' in str(caught.value)
    assert '/c/camera_info (sensor_msgs/msg/CameraInfo), /x (std_msgs/msg/String)' in str(
        caught.value
    )

# SPDX-License-Identifier: Apache-2.0
"""Bags as recorders, editors and other tools leave them: what is in the files is what counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import shutil
import sqlite3
from typing import Any

from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
import pytest
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability
from rosbags.interfaces import QosTime as Time
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
import yaml

from multishift_perception import bags
from multishift_perception.errors import MultishiftError

TYPES = get_typestore(Stores.ROS2_JAZZY)


def cdr(text: str) -> bytes:
    return bytes(TYPES.serialize_cdr(TYPES.types[bags.STRING](data=text), bags.STRING))


def write(
    folder: Path,
    times: Sequence[int],
    *,
    plugin: StoragePlugin = StoragePlugin.MCAP,
    qos: Sequence[Qos] = (),
    mode: CompressionMode | None = None,
) -> Path:
    writer = Writer(folder, version=8, storage_plugin=plugin)
    if mode:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(
            '/t', bags.STRING, typestore=TYPES, offered_qos_profiles=qos
        )
        for time in times:
            writer.write(connection, time, cdr(f'message {time}'))
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / 'metadata.yaml'
    whole = yaml.safe_load(path.read_text())
    whole['rosbag2_bagfile_information'] |= changes
    path.write_text(yaml.safe_dump(whole))


def texts(path: Path) -> list[str]:
    with bags.BagReader(path) as reader:
        assert reader.warnings == []
        found = [message.data for _, message, _ in reader.messages(['/t'])]
        assert reader.count(['/t']) == len(found)
        whole = [
            message._replace(data=message.data[:9]) for message in reader.raw_messages(['/t'])
        ]
        assert list(reader.starts(['/t'], 9)) == whole
    return found


def write_mcap(path: Path, times: Sequence[int], **options: Any) -> Path:
    with path.open('wb') as file:
        writer = McapWriter(file, **options)
        writer.start(profile='ros2')
        schema = writer.register_schema(bags.STRING, 'ros2msg', b'string data')
        channel = writer.register_channel('/t', 'cdr', schema)
        for time in times:
            writer.add_message(channel, time, cdr(f'message {time}'), time)
        writer.finish()
    return path


QOS = Qos(
    QosHistory.KEEP_LAST,
    5,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    Time(0, 0),
    Time(0, 0),
    QosLiveliness.AUTOMATIC,
    Time(0, 0),
    False,
)


def test_every_file_of_a_bag_is_read_whatever_qos_it_was_offered_with(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [1, 2], qos=[QOS])
    other = write(tmp_path / 'other', [3, 4], qos=[QOS._replace(depth=9)])
    (other / 'other.mcap').rename(bag / 'bag_1.mcap')
    edit(bag, relative_file_paths=['bag.mcap', 'bag_1.mcap'], topics_with_message_count=[])
    assert texts(bag) == [f'message {i}' for i in (1, 2, 3, 4)]


def test_files_that_overlap_in_time_are_merged(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [1, 3, 5])
    other = write(tmp_path / 'other', [2, 4, 9])
    (other / 'other.mcap').rename(bag / 'bag_1.mcap')
    edit(bag, relative_file_paths=['bag_1.mcap', 'bag.mcap'], topics_with_message_count=[])
    assert texts(bag) == [f'message {i}' for i in (1, 2, 3, 4, 5, 9)]


@pytest.mark.parametrize('plugin', list(StoragePlugin))
def test_what_metadata_says_beside_the_files_does_not_matter(
    tmp_path: Path, plugin: StoragePlugin
) -> None:
    bag = write(tmp_path / 'bag', [1, 2], plugin=plugin, qos=[QOS])
    metadata = yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    (topic,) = metadata['topics_with_message_count']
    topic['topic_metadata']['offered_qos_profiles'] = ''
    edit(bag, version=99, storage_identifier='', topics_with_message_count=[topic])
    assert texts(bag) == ['message 1', 'message 2']


def test_messages_that_metadata_counts_and_no_file_holds_are_counted(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [1, 2])
    other = write(tmp_path / 'other', [1, 2, 3, 4, 5])
    shutil.copy(other / 'metadata.yaml', bag)
    edit(bag, relative_file_paths=['bag.mcap'])
    with bags.BagReader(bag) as reader:
        assert (reader.count(['/t']), reader.missing('/t')) == (2, 3)
        (warning,) = reader.warnings
    assert 'metadata.yaml counts 5 messages on /t, of which the files hold 2' in warning


def test_a_file_that_metadata_lacks_is_named(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [1])
    shutil.copy(bag / 'bag.mcap', bag / 'bag_1.mcap')
    with bags.BagReader(bag) as reader:
        (warning,) = reader.warnings
    assert 'bag_1.mcap is not listed in metadata.yaml and is not read' in warning


def test_a_file_that_only_metadata_has_is_an_error(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [1])
    edit(bag, relative_file_paths=['bag.mcap', 'bag_1.mcap'])
    with pytest.raises(MultishiftError, match=r'lists bag_1\.mcap, which is not there'):
        texts(bag)


@pytest.mark.parametrize('name', ['a#b', 'a?mode=rw', 'a%20b', 'a b'])
def test_any_name_is_a_good_one(tmp_path: Path, name: str) -> None:
    bag = write(tmp_path / 'bag', [1], plugin=StoragePlugin.SQLITE3)
    bag = bag.rename(tmp_path / name)
    assert texts(bag) == ['message 1']
    assert texts((bag / 'bag.db3').rename(tmp_path / f'{name}.db3')) == ['message 1']


def insert_thing(database: Path) -> None:
    with sqlite3.connect(database) as db:
        db.execute("INSERT INTO topics VALUES (9, '/thing', 'my_msgs/msg/Thing', 'cdr', '', '')")
        db.execute("INSERT INTO messages VALUES (NULL, 9, 7, x'00010000')")
    db.close()


def test_a_type_without_definition_is_left_alone(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [1], plugin=StoragePlugin.SQLITE3)
    insert_thing(bag / 'bag.db3')
    assert texts(bag) == ['message 1']
    with bags.BagReader(bag) as reader:
        assert reader.topics['/thing'] == 'my_msgs/msg/Thing'
        with pytest.raises(MultishiftError, match='/thing has type my_msgs/msg/Thing'):
            list(reader.messages())


@pytest.fixture
def unmerged(tmp_path: Path) -> Path:
    """A bag whose second message is only in the write-ahead log, as a crash leaves it."""
    bag = write(tmp_path / 'bag', [1], plugin=StoragePlugin.SQLITE3)
    db = sqlite3.connect(bag / 'bag.db3')
    db.execute('PRAGMA journal_mode=WAL')
    db.execute('INSERT INTO messages VALUES (NULL, 1, 2, ?)', [cdr('message 2')])
    db.commit()
    copy = shutil.copytree(bag, tmp_path / 'copy')
    db.close()
    edit(copy, topics_with_message_count=[])
    return copy


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_write_ahead_log_is_read_and_nothing_is_changed(unmerged: Path) -> None:
    before = contents(unmerged)
    assert before.keys() == {'bag.db3', 'bag.db3-shm', 'bag.db3-wal', 'metadata.yaml'}
    assert texts(unmerged) == ['message 1', 'message 2']
    assert contents(unmerged) == before


def test_a_write_ahead_log_that_cannot_be_read_is_named(unmerged: Path) -> None:
    (unmerged / 'bag.db3-shm').unlink()
    before = contents(unmerged)
    with pytest.raises(MultishiftError, match=r'bag\.db3-wal: .*sqlite3 .*wal_checkpoint'):
        texts(unmerged)
    assert contents(unmerged) == before


def test_a_journal_of_a_write_that_was_cut_off_is_named(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [1], plugin=StoragePlugin.SQLITE3)
    (bag / 'bag.db3-journal').write_bytes(b'\xd9\xd5\x05\xf9\x20\xa1\x63\xd7' + bytes(504))
    with pytest.raises(MultishiftError, match=r'bag\.db3-journal: undoes a write to bag\.db3'):
        texts(bag)


@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize('plugin', list(StoragePlugin))
def test_compressed_bags(tmp_path: Path, plugin: StoragePlugin, mode: CompressionMode) -> None:
    bag = write(tmp_path / 'bag', [1, 2], plugin=plugin, mode=mode)
    assert texts(bag) == ['message 1', 'message 2']
    (file,) = (path for path in bag.iterdir() if path.name != 'metadata.yaml')
    assert texts(file) == ['message 1', 'message 2']


def test_a_compression_that_is_unknown_is_named(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [1])
    edit(bag, compression_format='lzma', compression_mode='FILE')
    with pytest.raises(MultishiftError, match=r"compression_format is 'lzma'; expected zstd"):
        texts(bag)


@pytest.mark.parametrize(
    'options',
    [
        {'use_chunking': False},
        {'compression': CompressionType.LZ4, 'chunk_size': 100},
        {'compression': CompressionType.ZSTD, 'chunk_size': 100},
        {'compression': CompressionType.NONE, 'use_statistics': False},
        {'repeat_channels': False, 'repeat_schemas': False},
    ],
)
def test_mcap_of_every_make_in_order_of_time(tmp_path: Path, options: dict[str, object]) -> None:
    times = [3, 1, 2, 9, 4, 8, 5, 7, 6, 12, 11, 10]
    path = write_mcap(tmp_path / 'a.mcap', times, **options)
    assert texts(path) == [f'message {i}' for i in range(1, 13)]


def test_a_topic_that_is_not_cdr_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / 'a.mcap'
    with path.open('wb') as file:
        writer = McapWriter(file)
        writer.start(profile='ros2')
        info = writer.register_schema('Info', 'jsonschema', b'{}')
        text = writer.register_schema(bags.STRING, 'ros2msg', b'string data')
        # An image in JSON is no image for us, whatever its type is called.
        image = writer.register_schema(bags.IMAGE, 'jsonschema', b'{}')
        for topic, encoding, schema, data in (
            ('/info', 'json', info, b'{}'),
            ('/t', 'cdr', text, cdr('message 1')),
            ('/image', 'json', image, b'{}'),
        ):
            channel = writer.register_channel(topic, encoding, schema)
            writer.add_message(channel, 1, data, 1)
        writer.finish()
    assert texts(path) == ['message 1']
    with bags.BagReader(path) as reader:
        assert reader.topics == {
            '/image': 'sensor_msgs/msg/Image (json)',
            '/info': 'Info (json)',
            '/t': bags.STRING,
        }
        with pytest.raises(MultishiftError, match=r'no image topic .* /t \(std_msgs/msg/String\)'):
            bags.image_topics(reader)


def test_of_a_raw_topic_and_its_twin_the_one_with_messages_is_taken(tmp_path: Path) -> None:
    path = tmp_path / 'a.mcap'
    with path.open('wb') as file:
        writer = McapWriter(file)
        writer.start(profile='ros2')
        for camera, empty in (('/front', ''), ('/left', '/compressed'), ('/rear', 'both')):
            for suffix, kind in (('', bags.IMAGE), ('/compressed', bags.COMPRESSED_IMAGE)):
                schema = writer.register_schema(kind, 'ros2msg', b'')
                channel = writer.register_channel(f'{camera}/image_raw{suffix}', 'cdr', schema)
                if suffix != empty and empty != 'both':
                    writer.add_message(channel, 1, bytes(20), 1)
        writer.finish()
    with bags.BagReader(path) as reader:
        assert bags.image_topics(reader) == {
            '/front/image_raw/compressed': bags.COMPRESSED_IMAGE,
            '/left/image_raw': bags.IMAGE,
            '/rear/image_raw': bags.IMAGE,
        }


def test_a_message_that_is_not_of_its_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'a.mcap'
    with bags.BagWriter(path) as writer:
        writer.raw('/t', bags.STRING, b'\x00\x01\x00\x00\xff\xff\xff\x00', 5)
    with pytest.raises(MultishiftError, match=r'message on /t at 5 ns is no std_msgs/msg/String'):
        texts(path)

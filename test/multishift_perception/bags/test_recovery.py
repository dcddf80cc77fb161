# SPDX-License-Identifier: Apache-2.0
"""Recordings that a crash, a full disk or a power cut ended: all that is whole is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, Writer
import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as BagFolder
from rosbags.typesys import Stores, get_typestore

from multishift_perception import bags
from multishift_perception.errors import MultishiftError

TYPES = get_typestore(Stores.ROS2_JAZZY)
COUNT = 30
SECOND = 1_000_000_000


def message(i: int, size: int = 300) -> bytes:
    # Random, so that it stays as large when it is compressed.
    noise = np.random.default_rng(i).integers(0, 26, size)
    text = f'{i} ' + ''.join(chr(ord('a') + n) for n in noise)
    return bytes(TYPES.serialize_cdr(TYPES.types[bags.STRING](data=text), bags.STRING))


def write_mcap(path: Path, **options: Any) -> bytes:
    with path.open('wb') as file:
        writer = Writer(file, **options)
        writer.start(profile='ros2')
        schema = writer.register_schema(bags.STRING, 'ros2msg', b'string data')
        channel = writer.register_channel('/t', 'cdr', schema)
        for i in range(COUNT):
            writer.add_message(channel, i * SECOND, message(i), 0)
        writer.finish()
    return path.read_bytes()


def read(path: Path) -> tuple[list[int], list[str]]:
    """Return the numbers of the messages, and the warnings."""
    with bags.BagReader(path) as reader:
        found = [int(m.data.split()[0]) for _, m, _ in reader.messages(['/t'])]
        assert reader.count(['/t']) == len(found)
        whole = [
            message._replace(data=message.data[:9]) for message in reader.raw_messages(['/t'])
        ]
        assert list(reader.starts(['/t'], 9)) == whole
        return found, reader.warnings


@pytest.mark.parametrize(
    'options',
    [
        {'use_chunking': False},
        {'compression': CompressionType.NONE},
        {'compression': CompressionType.LZ4, 'chunk_size': 3000},
        {'compression': CompressionType.ZSTD, 'chunk_size': 3000},
    ],
)
def test_an_mcap_cut_anywhere_is_read_as_far_as_it_goes(
    tmp_path: Path, options: dict[str, object]
) -> None:
    whole = write_mcap(tmp_path / 'a.mcap', **options)
    cut = tmp_path / 'cut.mcap'
    numbers = []
    for size in np.linspace(0, len(whole) - 1, 40, dtype=int):
        cut.write_bytes(whole[:size])
        try:
            found, warnings = read(cut)
        except MultishiftError as error:
            assert 'cut off before its first message' in str(error) and '\n' not in str(error)
            numbers.append(0)
            continue
        assert found == list(range(len(found)))
        (warning,) = warnings
        assert f'cut off; read as far as it goes: {len(found)} messages' in warning
        assert f' {len(found) - 1:.1f} s' in warning
        numbers.append(len(found))
    assert numbers == sorted(numbers)
    assert numbers[-1] == COUNT
    assert len(set(numbers)) >= 5  # after each chunk, and inside one that is not compressed


def test_the_empty_space_behind_a_power_cut_is_not_read(tmp_path: Path) -> None:
    whole = write_mcap(tmp_path / 'a.mcap', use_chunking=False)
    end = len(whole) // 2
    (tmp_path / 'a.mcap').write_bytes(whole[:end] + bytes(5000))
    found, (warning,) = read(tmp_path / 'a.mcap')
    assert 0 < len(found) < COUNT
    assert 'bytes are not whole messages' in warning


def test_damage_inside_a_cut_mcap_ends_it_and_the_rest_is_counted(tmp_path: Path) -> None:
    whole = bytearray(write_mcap(tmp_path / 'a.mcap', chunk_size=3000))
    middle = len(whole) // 2
    whole[middle : middle + 500] = b'\xff' * 500
    (tmp_path / 'a.mcap').write_bytes(whole[:-1])
    found, (warning,) = read(tmp_path / 'a.mcap')
    assert 0 < len(found) < COUNT * 0.6
    unread = int(warning.split('its last ')[1].split()[0])
    assert unread > len(whole) * 0.4


@pytest.mark.parametrize('use_summary_offsets', [False, True])
def test_damage_inside_a_whole_mcap_is_told_to_be_copied_again(
    tmp_path: Path, use_summary_offsets: bool
) -> None:
    options = {} if use_summary_offsets else {'use_statistics': False}
    whole = bytearray(write_mcap(tmp_path / 'a.mcap', chunk_size=3000, **options))
    middle = len(whole) // 2
    whole[middle : middle + 500] = b'\xff' * 500
    (tmp_path / 'a.mcap').write_bytes(whole)
    with pytest.raises(MultishiftError, match='damaged .*copy it again from its source'):
        read(tmp_path / 'a.mcap')


def write_folder(folder: Path, *, size: int = 300, **options: Any) -> Path:
    writer = BagFolder(folder, version=8, **options)
    with writer:
        connection = writer.add_connection('/t', bags.STRING, typestore=TYPES)
        for i in range(COUNT):
            writer.write(connection, i * SECOND, message(i, size))
    return folder


@pytest.mark.parametrize('spare', [0, 1, 2000])
def test_a_db3_cut_anywhere_is_read_as_far_as_it_goes(tmp_path: Path, spare: int) -> None:
    folder = write_folder(tmp_path / 'bag', storage_plugin=StoragePlugin.SQLITE3, size=9000)
    file = folder / 'bag.db3'
    whole, page = file.read_bytes(), 4096
    numbers = []
    for size in range(page + spare, len(whole), 5 * page):
        file.write_bytes(whole[:size])
        try:
            with bags.BagReader(file) as reader:
                found = [cdr for _, _, cdr, _ in reader.raw_messages()]
                (warning,) = reader.warnings
        except MultishiftError as error:
            assert '\n' not in str(error)
            numbers.append(0)
            continue
        assert found == [message(i, 9000) for i in range(len(found))]
        assert f'cut off; read as far as it goes: {len(found)} messages' in warning
        numbers.append(len(found))
    assert numbers == sorted(numbers)
    assert COUNT / 2 < max(numbers) < COUNT
    assert len(set(numbers)) > COUNT / 3


def test_a_compressed_file_cut_short(tmp_path: Path) -> None:
    writer = BagFolder(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection('/t', bags.STRING, typestore=TYPES)
        for i in range(2000):
            writer.write(connection, i * SECOND, message(i))
    file = tmp_path / 'bag' / 'bag.mcap.zstd'
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found, (counted, cut) = read(tmp_path / 'bag')[0], read(tmp_path / 'bag')[1]
    assert found == list(range(len(found)))
    assert 0 < len(found) < 2000
    assert 'bag.mcap.zstd: the recording is cut off' in counted
    assert f'counts 2000 messages on /t, of which the files hold {len(found)}' in cut


def test_a_folder_that_a_crash_left_without_metadata(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / 'bag', storage_plugin=StoragePlugin.MCAP)
    (folder / 'bag.mcap').rename(folder / 'bag_9.mcap')
    (folder / 'bag_10.mcap').touch()  # begun, and nothing was written
    (folder / 'metadata.yaml').unlink()
    found, (missing, cut) = read(folder)
    assert found == list(range(COUNT))
    assert 'metadata.yaml is missing; read by their names: bag_9.mcap, bag_10.mcap' in missing
    assert 'bag_10.mcap: the recording is cut off; read as far as it goes: 0 messages' in cut


@pytest.mark.parametrize('text', ['', 'rosbag2_bagfile_information: {versi', '[1]', '{}'])
def test_a_metadata_file_of_no_use(tmp_path: Path, text: str) -> None:
    folder = write_folder(tmp_path / 'bag', storage_plugin=StoragePlugin.MCAP)
    (folder / 'metadata.yaml').write_text(text)
    found, (warning,) = read(folder)
    assert found == list(range(COUNT))
    assert 'metadata.yaml is of no use' in warning and '\n' not in warning

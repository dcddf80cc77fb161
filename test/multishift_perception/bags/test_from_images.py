# SPDX-License-Identifier: Apache-2.0
"""Folders of images and the sample drive become bags; label values are mapped once."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
import struct
from typing import Any
import zlib

from click.testing import CliRunner
import cv2
import numpy as np
from numpy.typing import ArrayLike
import pytest

from multishift_perception import bags
from multishift_perception.bags.from_images import find_images, make_bag
from multishift_perception.bags.from_sample_drive import write_sample_bag
from multishift_perception.classes import NOVEL, VOID
from multishift_perception.cli.main import multishift
from multishift_perception.errors import MultishiftError
from multishift_perception.footage import open_footage
from multishift_perception.images.label_map import (
    UNMAPPED,
    apply_label_map,
    load_label_map,
    own_labels,
    read_labels,
)

CAMVID_MAP = Path(__file__).parents[3] / 'config' / 'labels' / 'camvid.yaml'


def write_image(path: Path, value: ArrayLike, size: tuple[int, ...] = (4, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.empty((*size, *np.shape(value)), np.uint8)
    pixels[:] = value
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three frames in two folders, all their labels in one."""
    for name, blue in (('a/f2.png', 2), ('a/f10.png', 10), ('b/f1.png', 1)):
        write_image(tmp_path / 'images' / name, (blue, 0, 200))
        write_image(tmp_path / 'labels' / Path(name).name, blue)
    return tmp_path / 'images', tmp_path / 'labels'


def run(folders: tuple[Path, Path], out: Path, **changes: Any) -> int:
    images, labels = folders
    arguments: dict[str, Any] = {
        'topic': '/cam/image_raw',
        'rate': 4.0,
        'labels': labels,
        'label_map': own_labels(),
        **changes,
    }
    return make_bag(images, out, **arguments)


def test_frames_labels_and_camera_info_share_their_stamps(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    assert run(folders, tmp_path / 'o.mcap') == 3

    with bags.BagReader(tmp_path / 'o.mcap') as reader:
        by_topic: dict[str, list] = {}
        for topic, message, time in reader.messages():
            assert bags.stamp_ns(message) == time
            assert message.header.frame_id == 'cam_optical_frame'
            by_topic.setdefault(topic, []).append(message)
    stamps = {t: [bags.stamp_ns(m) - bags.EPOCH_NS for m in ms] for t, ms in by_topic.items()}
    topics = ('/cam/image_raw', '/cam/camera_info', '/cam/ground_truth/labels')
    assert stamps == {topic: [0, 250_000_000, 500_000_000] for topic in topics}
    # Natural order, and RGB: the red of 200 comes first.
    assert [m.data[:3].tolist() for m in by_topic['/cam/image_raw']] == [
        [200, 0, 2],
        [200, 0, 10],
        [200, 0, 1],
    ]
    assert [m.data[0] for m in by_topic['/cam/ground_truth/labels']] == [2, 10, 1]
    info = by_topic['/cam/camera_info'][0]
    assert (info.width, info.height, info.k.any()) == (6, 4, False)


def test_labels_may_mirror_the_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_image(folders[1] / 'a' / 'f2.png', 17)
    run(folders, tmp_path / 'o.mcap')

    with bags.BagReader(tmp_path / 'o.mcap') as reader:
        labels = [m.data[0] for _, m, _ in reader.messages(['/cam/ground_truth/labels'])]
    assert labels == [17, 10, 1]


def test_without_labels_there_is_no_ground_truth(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    run(folders, tmp_path / 'o.mcap', labels=None)
    with bags.BagReader(tmp_path / 'o.mcap') as reader:
        assert list(reader.topics) == ['/cam/camera_info', '/cam/image_raw']


def test_faults_are_named_and_leave_no_bag(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = folders
    out = tmp_path / 'out' / 'o.mcap'
    with pytest.raises(MultishiftError, match=r"'image_raw' is no absolute topic"):
        run(folders, out, topic='image_raw')
    with pytest.raises(MultishiftError, match='no such folder'):
        run((tmp_path / 'gone', labels), out)
    write_image(labels / 'f10.png', 77)
    with pytest.raises(MultishiftError, match=r'f10\.png: label value 77 is not in'):
        run(folders, out)
    write_image(labels / 'f10.png', 1, size=(8, 6))
    with pytest.raises(MultishiftError, match=r'f10\.png: has 6 x 8 pixels, .* 6 x 4'):
        run(folders, out)
    (labels / 'f10.png').unlink()
    with pytest.raises(MultishiftError, match=r'f10\.png: no such label image'):
        run(folders, out)
    data = (images / 'a' / 'f2.png').read_bytes()
    (images / 'a' / 'f2.png').write_bytes(data[:-20])
    with pytest.raises(MultishiftError, match=r'f2\.png: .*truncated'):
        run(folders, out, labels=None)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_images_are_found_in_natural_order(tmp_path: Path) -> None:
    names = ['s2/1.JPG', 's2/10.png', 's10/2.jpeg', 's10/x.png', 's10/x2y10.png', 's10/x2y9.png']
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'notes.txt').touch()

    found = [str(p.relative_to(tmp_path)) for p in find_images(tmp_path)]
    assert found == [*names[:3], 's10/x2y9.png', 's10/x2y10.png', 's10/x.png']

    (tmp_path / 'empty').mkdir()
    with pytest.raises(MultishiftError, match=r'empty: no \.jpg'):
        find_images(tmp_path / 'empty')


def test_the_camvid_map_holds_the_bicyclist_out() -> None:
    table = load_label_map(CAMVID_MAP)
    assert table[:12].tolist() == [10, 2, 5, 0, 1, 8, 7, 4, 13, 11, NOVEL, VOID]
    assert (table[12:] == UNMAPPED).all()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('0: 19', r'0 \(line 1\): 19 is no class, expected a number 0 to 18 or one of road'),
        ('0: true', r'0 \(line 1\): True is no class'),
        ('0: ridr', r'ridr is no class \(did you mean rider\?\), .*bicycle, novel or void'),
        ('300: 1', r'300 \(line 1\) is no key, expected a whole number from 0 to 255'),
        ('sky: 1', r'sky \(line 1\) is no key, expected a whole number from 0 to 255'),
        ('- 1', r'holds a list at top level, expected lines'),
        ('', r'map.yaml is empty: give a label map, of lines such as `0: sky`'),
        ('{', r'not valid YAML'),
    ],
)
def test_a_wrong_label_map_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / 'map.yaml'
    path.write_text(text)
    with pytest.raises(MultishiftError, match=message) as caught:
        load_label_map(path)
    assert 'map.yaml' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_own_labels_pass_and_others_do_not() -> None:
    good = np.array([[0, 18, NOVEL, VOID]], np.uint8)
    np.testing.assert_array_equal(apply_label_map(own_labels(), good, Path('x')), good)
    for value in (19, UNMAPPED):
        with pytest.raises(MultishiftError, match=f'label value {value}'):
            apply_label_map(own_labels(), np.array([[value]], np.uint8), Path('x'))


def test_colour_renderings_are_no_labels(tmp_path: Path) -> None:
    write_image(tmp_path / 'c.png', (1, 2, 3))
    with pytest.raises(MultishiftError, match='colour rendering'):
        read_labels(tmp_path / 'c.png', own_labels())
    (tmp_path / 'd.png').write_bytes(b'no image')
    with pytest.raises(MultishiftError, match='not a readable image'):
        read_labels(tmp_path / 'd.png', own_labels())


def labels_in(bag: Path) -> list[list[int]]:
    with bags.BagReader(bag) as reader:
        return [m.data.tolist() for _, m, _ in reader.messages(['/cam/ground_truth/labels'])]


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('palette', [False, True])
def test_labels_of_few_bits_and_of_palettes_keep_their_values(
    tmp_path: Path, bits: int, palette: bool
) -> None:
    values = np.array([[0, 1, 1, 0], [0, min(3, 2**bits - 1), 0, 1]], np.uint8)
    write_image(tmp_path / 'images' / 'a.png', (9, 9, 9), size=values.shape)
    (tmp_path / 'labels').mkdir()
    write_png(tmp_path / 'labels' / 'a.png', values, bits=bits, palette=palette)

    run((tmp_path / 'images', tmp_path / 'labels'), tmp_path / 'o.mcap')

    assert labels_in(tmp_path / 'o.mcap') == [values.ravel().tolist()]


def write_png(path: Path, values: np.ndarray, *, bits: int, palette: bool) -> None:
    """Write a grey or palette PNG; Pillow writes no grey of 2 and 4 bits."""
    spread = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :]
    rows = [b'\0' + np.packbits(row.ravel()).tobytes() for row in spread]
    height, width = values.shape
    chunks = [(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, 3 * palette, 0, 0, 0))]
    if palette:
        chunks.append((b'PLTE', bytes(range(255, 255 - 3 * 2 ** min(bits, 6), -1))))
    chunks += [(b'IDAT', zlib.compress(b''.join(rows))), (b'IEND', b'')]
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + b''.join(
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


def test_an_oversized_or_missing_frame_is_named(tmp_path: Path) -> None:
    images = tmp_path / 'images'
    write_image(images / 'a.png', (9, 9, 9))
    data = bytearray((images / 'a.png').read_bytes())
    data[16:24] = (12_000).to_bytes(4, 'big') * 2
    (images / 'a.png').write_bytes(bytes(data))
    with pytest.raises(MultishiftError, match=r'a\.png: .*12000 x 12000'):
        run((images, images), tmp_path / 'o.mcap', labels=None)
    (images / 'a.png').unlink()
    (images / 'a.png').symlink_to('gone.png')
    with pytest.raises(MultishiftError, match=r'a\.png: .*No such file'):
        run((images, images), tmp_path / 'o.mcap', labels=None)


def test_make_bag_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = folders
    (tmp_path / 'map.yaml').write_text('{1: novel, 2: 0, 10: void}')
    out = tmp_path / 'o.mcap'
    arguments = [str(images), str(out), '--labels', str(labels), '--rate', '2']
    arguments += ['--label-map', str(tmp_path / 'map.yaml')]

    result = CliRunner().invoke(multishift, ['make-bag', *arguments], catch_exceptions=False)

    assert result.exit_code == 0
    assert '3 frames on /camera/image_raw, 1.5 s' in result.output
    with bags.BagReader(out) as reader:
        values = [m.data[0] for _, m, _ in reader.messages(['/camera/ground_truth/labels'])]
    assert values == [0, VOID, NOVEL]


@pytest.mark.slow
def test_the_sample_drive_is_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        write_sample_bag(tmp_path / f'{name}.mcap', seed=seed, seconds=1, rate=2, size=(96, 128))

    first, same, other = (p.read_bytes() for p in sorted(tmp_path.iterdir()))
    assert first == same
    assert first != other


@pytest.mark.slow
def test_sample_drive_command_follows_the_conventions(tmp_path: Path) -> None:
    out = tmp_path / 's.mcap'
    arguments = f'{out} --seconds 1 --rate 3 --height 96 --width 128'.split()
    result = CliRunner().invoke(multishift, ['sample-drive', *arguments], catch_exceptions=False)
    assert result.exit_code == 0

    with bags.BagReader(out) as reader:
        assert set(reader.topics) == {
            f'/{camera}/{topic}'
            for camera in ('front', 'left')
            for topic in (
                'image_raw',
                'camera_info',
                'ground_truth/labels',
                'ground_truth/condition',
            )
        }
        stamps: dict[str, list[int]] = {}
        for topic, message, time in reader.messages():
            if hasattr(message, 'header'):
                assert bags.stamp_ns(message) == time
                assert message.header.frame_id == f'{topic.split("/")[1]}_optical_frame'
            stamps.setdefault(topic, []).append(time - bags.EPOCH_NS)
        ((_, info, _), *_) = reader.messages(['/left/camera_info'])
    assert set(map(tuple, stamps.values())) == {(0, 333_333_333, 666_666_667)}
    assert info.k[0] > 0
    assert info.p[0] == info.k[0]


def test_only_reports_of_ours_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = {
        'ours': '{"command": "multishift replay"}',
        'ffmpeg': '{"command": "ffmpeg -i drive.mp4"}',
        'list': '{"command": ["multishift"]}',
        'deep': '[' * 100_000,
        'binary': '\x80',
    }
    for name, text in notes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / 'a.png').touch()
        (tmp_path / name / 'metrics.json').write_text(text, encoding='latin-1')
    (tmp_path / 'folder/metrics.json').mkdir(parents=True)
    (tmp_path / 'folder/metrics.json/a.png').touch()
    found = {path.relative_to(tmp_path).parts[0] for path in find_images(tmp_path)}
    assert found == {'ffmpeg', 'list', 'deep', 'binary', 'folder'}
    assert 'ours is left out: it is a report of `multishift replay`' in caplog.text
    with ExitStack() as stack:
        (footage,) = open_footage(str(tmp_path / '**/*.png'), stack)
        assert (footage.name, footage.count) == (tmp_path.name, len(found))
        (named,) = open_footage(str(tmp_path / 'ours/*.png'), stack)
        assert named.count == 1

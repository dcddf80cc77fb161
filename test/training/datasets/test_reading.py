# SPDX-License-Identifier: Apache-2.0
"""Image and label files: what is accepted, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
import pickle
import struct
from typing import Any
from zipfile import ZipFile
import zlib

import numpy as np
from PIL import Image
import pytest

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_perception.images.codec import decode_compressed
from multishift_perception.images.frame_errors import OversizedFrame
from multishift_perception.images.label_map import UNMAPPED
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.images import LabelledImages
from multishift_training.datasets.reading import read_image, read_labels

TABLE = np.full(256, UNMAPPED, np.uint8)
TABLE[[0, 1, 2, 255]] = 0, 5, NOVEL, VOID
RAW = np.array([[0, 1, 2, 255], [1, 1, 0, 0]], np.uint8)
EXPECTED = [[0, 5, NOVEL, VOID], [5, 5, 0, 0]]


def labels_of(path: Path) -> Any:
    return read_labels(path, TABLE, kind='streets').tolist()


def test_grey_labels(tmp_path: Path) -> None:
    Image.fromarray(RAW).save(tmp_path / 'a.png')
    assert labels_of(tmp_path / 'a.png') == EXPECTED


def test_palette_labels_are_read_by_index(tmp_path: Path) -> None:
    picture = Image.fromarray(RAW).convert('L').point(lambda v: v)
    picture.putpalette([value for i in range(256) for value in (255 - i, i // 2, 37)])
    assert picture.mode == 'P'
    picture.save(tmp_path / 'a.png')
    assert labels_of(tmp_path / 'a.png') == EXPECTED


def test_grey_stored_as_colour(tmp_path: Path) -> None:
    for name, alpha in (('a.png', ()), ('b.png', (np.full_like(RAW, 255),))):
        Image.fromarray(np.dstack([RAW, RAW, RAW, *alpha])).save(tmp_path / name)
        assert labels_of(tmp_path / name) == EXPECTED


def test_colour_rendering_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RAW, RAW, RAW + 1])).save(tmp_path / 'a.png')
    with pytest.raises(MultishiftError, match=r'a\.png: .*one channel.*colour rendering'):
        labels_of(tmp_path / 'a.png')


def test_one_bit_labels(tmp_path: Path) -> None:
    Image.fromarray(RAW == 1).save(tmp_path / 'a.png')
    assert labels_of(tmp_path / 'a.png') == [[0, 5, 0, 0], [5, 5, 0, 0]]


@pytest.mark.parametrize(('bits', 'rows'), [(2, b'\0\x18\0\x50'), (4, b'\0\x01\x20\0\x11\0')])
def test_labels_of_few_bits_are_not_spread(tmp_path: Path, bits: int, rows: bytes) -> None:
    chunks = [
        (b'IHDR', struct.pack('>IIBBBBB', 3, 2, bits, 0, 0, 0, 0)),
        (b'IDAT', zlib.compress(rows)),
        (b'IEND', b''),
    ]
    parts = [
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    (tmp_path / 'a.png').write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(parts))
    assert labels_of(tmp_path / 'a.png') == [row[:3] for row in EXPECTED]


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.int64, np.bool_])
def test_npz_labels(tmp_path: Path, dtype: type) -> None:
    np.savez_compressed(tmp_path / 'a.npz', anything=RAW.astype(dtype))
    expected = EXPECTED if dtype is not np.bool_ else [[0, 5, 5, 5], [5, 5, 0, 0]]
    assert labels_of(tmp_path / 'a.npz') == expected


def test_label_value_outside_the_set_names_file_and_value(tmp_path: Path) -> None:
    raw = RAW.copy()
    raw[1, 2] = 24
    Image.fromarray(raw).save(tmp_path / 'a.png')
    with pytest.raises(MultishiftError, match=r'a\.png: .*value 24 .*streets uses \(0\.\.2, 255'):
        labels_of(tmp_path / 'a.png')


@pytest.mark.parametrize('value', [-1, 256, 65536])
def test_values_beyond_a_byte_do_not_wrap(tmp_path: Path, value: int) -> None:
    np.savez(tmp_path / 'a.npz', np.full((2, 2), value, np.int32))
    with pytest.raises(MultishiftError, match=f'label value {value} '):
        labels_of(tmp_path / 'a.npz')


def test_sixteen_bit_labels_do_not_wrap(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 257, np.uint16)).save(tmp_path / 'a.png')
    with pytest.raises(MultishiftError, match='label value 257 '):
        labels_of(tmp_path / 'a.png')


def test_npz_is_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / 'a.npz', np.array([{'evil': 1}], object))
    with pytest.raises(MultishiftError, match=r'a\.npz is no readable npz'):
        labels_of(tmp_path / 'a.npz')
    (tmp_path / 'b.npz').write_bytes(pickle.dumps(RAW))
    with pytest.raises(MultishiftError, match=r'b\.npz is no readable npz'):
        labels_of(tmp_path / 'b.npz')


def test_npz_of_two_arrays_or_cut_off(tmp_path: Path) -> None:
    np.savez(tmp_path / 'a.npz', RAW, RAW)
    with pytest.raises(MultishiftError, match='holds 2 arrays'):
        labels_of(tmp_path / 'a.npz')
    whole = (tmp_path / 'a.npz').read_bytes()
    (tmp_path / 'a.npz').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MultishiftError, match='no readable npz'):
        labels_of(tmp_path / 'a.npz')
    with ZipFile(tmp_path / 'b.npz', 'w') as file:
        file.writestr('b.txt', 'no array')
    with pytest.raises(MultishiftError, match='must have one channel of integers'):
        labels_of(tmp_path / 'b.npz')


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.webp'])
def test_damaged_image_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'a{suffix}'
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(noise).save(path)
    entry = Entry(path, path, 'a', 'a')
    assert read_image(entry).shape == (40, 50, 3)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b'', b'no picture at all'):
        path.write_bytes(content)
        with pytest.raises(MultishiftError, match=rf'a\{suffix} is no readable image'):
            read_image(entry)
    path.unlink()
    with pytest.raises(MultishiftError, match='is no readable image'):
        read_image(entry)


def test_webp_and_grey_images_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 250
    Image.fromarray(red).save(tmp_path / 'a.webp', lossless=True)
    path = tmp_path / 'a.webp'
    assert (read_image(Entry(path, path, '', '')) == red).all()
    path = tmp_path / 'a.png'
    Image.fromarray(red[..., 0]).save(path)
    assert (read_image(Entry(path, path, '', '')) == 250).all()


def test_sixteen_bit_grey_is_not_white(tmp_path: Path) -> None:
    """A camera's, as the node decodes it: the most significant byte counts."""
    grey = np.arange(16 * 16, dtype=np.uint16).reshape(16, 16)
    path = tmp_path / 'a.png'
    Image.fromarray(grey * 256 + 77).save(path)
    assert (read_image(Entry(path, path, '', '')) == grey[..., None]).all()
    assert (decode_compressed(path.read_bytes()) == grey[..., None]).all()


def test_images_larger_than_a_camera_s_are_read(tmp_path: Path) -> None:
    path = tmp_path / 'a.png'
    Image.new('1', (8_000, 4_001)).save(path)
    assert read_image(Entry(path, path, '', '')).shape == (4_001, 8_000, 3)
    with pytest.raises(OversizedFrame):
        decode_compressed(path.read_bytes())


def test_orientation_tag_is_not_obeyed(tmp_path: Path) -> None:
    """Label images carry no tag: turned images would no longer fit them."""
    path = tmp_path / 'a.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((16, 32, 3), np.uint8)).save(path, exif=exif)
    assert read_image(Entry(path, path, '', '')).shape == (16, 32, 3)


def test_difference_of_another_size(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / 'base.png')
    np.savez(tmp_path / 'a.npz', np.zeros((4, 5, 3), np.int16))
    entry = Entry(tmp_path / 'a.npz', tmp_path / 'x', '', '', base=tmp_path / 'base.png')
    with pytest.raises(MultishiftError, match=r'a\.npz holds int16 \(4, 5, 3\).*base\.png'):
        read_image(entry)


def test_image_and_labels_of_different_sizes(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / 'a.jpg')
    Image.fromarray(RAW).save(tmp_path / 'a.png')
    entry = Entry(tmp_path / 'a.jpg', tmp_path / 'a.png', 'a', 'a')
    images = LabelledImages('streets', [entry], TABLE)
    with pytest.raises(MultishiftError, match=r'a\.png has \(2, 4\).*a\.jpg \(4, 6\)'):
        images.read(0)
    assert images.read_labels(0).tolist() == EXPECTED

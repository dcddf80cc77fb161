# SPDX-License-Identifier: Apache-2.0
"""Finding the files of a data set by key, and pairing those that a list names."""

from __future__ import annotations

from pathlib import Path

import pytest

from multishift_perception.errors import MultishiftError
from multishift_training.datasets.entries import find, pair, read_keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ('north/seg_000', 'north/seg_001', 'south/seg_000'):
        for end in ('_rgb.png', '_mask.png'):
            path = tmp_path / f'{name}{end}'
            path.parent.mkdir(exist_ok=True)
            path.touch()
    return tmp_path


def test_keys_are_paths_below_the_folder_without_end(folder: Path) -> None:
    found = find(folder, '*/*', ('_rgb.png',))
    assert list(found.by_key) == ['north/seg_000', 'north/seg_001', 'south/seg_000']
    assert found.wanted == '*/*_rgb.png'
    given: list[str] = []
    find(folder, 'north/*', ('_RGB.PNG',), key=lambda path: given.append(path) or path)
    assert given == ['north/seg_000', 'north/seg_001']


def test_names_are_globs_of_file_names_with_their_ends(folder: Path) -> None:
    assert list(find(folder, '*/*', ('_rgb.png',), names=('*_001_rgb.png',)).by_key) == [
        'north/seg_001'
    ]
    with pytest.raises(MultishiftError, match=r'none of the 3 files in .* is named seg_001 or x:'):
        find(folder, '*/*', ('_rgb.png',), names=('seg_001', 'x'))


def test_what_was_looked_for_is_written_as_globs(folder: Path) -> None:
    found = find(folder, '*.png', ('.png', '.jpg'))
    assert found.wanted == '*.png or *.png.jpg'


def test_pairs_of_a_list_alone_are_taken(folder: Path) -> None:
    (folder / 'train.txt').write_text(' south/seg_000\n\nnorth/seg_000\r\nsouth/seg_000\n')
    images, labels = find(folder, '*/*', ('_rgb.png',)), find(folder, '*/*', ('_mask.png',))
    (folder / 'north/seg_001_mask.png').unlink()
    keys = read_keys(folder / 'train.txt')
    pairs = pair('mine', images, labels, only=keys, mend='copy them')
    assert pairs == [
        (key, folder / f'{key}_rgb.png', folder / f'{key}_mask.png')
        for key in ('north/seg_000', 'south/seg_000')
    ]


def test_what_a_list_names_and_is_missing_is_told_at_once(folder: Path) -> None:
    (folder / 'north/seg_001_mask.png').unlink()
    images, labels = find(folder, '*/*', ('_rgb.png',)), find(folder, '*/*', ('_mask.png',))
    with pytest.raises(
        MultishiftError,
        match=r'^mine: of 2 listed images 1 \(east\) have no \*/\*_rgb.png in .*; of 2 listed '
        r'images 2 \(east, north/seg_001\) have no \*/\*_mask.png in .*: copy them$',
    ):
        pair('mine', images, labels, only=['north/seg_001', 'east'], mend='copy them')


def test_lists_that_name_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match=r'cannot read the list of images .*train.txt'):
        read_keys(tmp_path / 'train.txt')
    (tmp_path / 'train.txt').write_text('\n')
    with pytest.raises(MultishiftError, match=r'train.txt is empty'):
        read_keys(tmp_path / 'train.txt')

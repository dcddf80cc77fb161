# SPDX-License-Identifier: Apache-2.0
"""Which files are images: links are followed, what systems leave is not listed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from multishift_perception.bags.from_images import find_images
from multishift_perception.errors import MultishiftError
from multishift_perception.images.listing import list_files


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def listed(folder: Path, depth: int | None = None) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_files(folder, depth)]


def test_linked_folders_and_files_are_listed(tmp_path: Path) -> None:
    touch(tmp_path / 'img' / 'a.png', tmp_path / 'other' / 'deep' / 'b.png')
    (tmp_path / 'img' / 'more').symlink_to('../other')
    (tmp_path / 'img' / 'c.png').symlink_to('../other/deep/b.png')
    assert listed(tmp_path / 'img') == ['a.png', 'c.png', 'more/deep/b.png']
    (tmp_path / 'link').symlink_to('img')
    assert listed(tmp_path / 'link') == listed(tmp_path / 'img')


def test_a_link_to_a_folder_that_it_lies_in_is_not_followed(tmp_path: Path) -> None:
    touch(tmp_path / 'a' / 'b' / 'c.png')
    (tmp_path / 'a' / 'b' / 'up').symlink_to('..')
    (tmp_path / 'a' / 'b' / 'self').symlink_to('.')
    (tmp_path / 'a' / 'itself').symlink_to('itself')
    assert listed(tmp_path / 'a') == ['b/c.png', 'itself']


def test_what_systems_leave_is_no_frame(tmp_path: Path) -> None:
    folder = tmp_path / '.hidden_itself'
    touch(
        folder / 'a.png',
        folder / '._a.png',
        folder / 'city' / '._b.png',
        folder / '.thumbs' / 'a.png',
        folder / '__MACOSX' / 'a.png',
        folder / 'city' / '.ipynb_checkpoints' / 'a.png',
    )
    assert listed(folder) == ['a.png']
    assert find_images(folder) == [folder / 'a.png']


def test_levels_below_the_depth_are_not_looked_at(tmp_path: Path) -> None:
    touch(tmp_path / 'a.png', tmp_path / 'b' / 'c.png', tmp_path / 'b' / 'd' / 'e.png')
    assert listed(tmp_path, 1) == ['a.png']
    assert listed(tmp_path, 2) == ['a.png', 'b/c.png']
    assert listed(tmp_path / 'gone') == listed(tmp_path / 'a.png') == []


def test_links_to_nothing_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / 'more').symlink_to('../unmounted')
    (tmp_path / 'a.png').symlink_to('../unmounted/a.png')
    with caplog.at_level(logging.WARNING):
        assert find_images(tmp_path) == [tmp_path / 'a.png']
    assert [record.getMessage() for record in caplog.records] == [
        f'{tmp_path / "more"} is a link to what is not there: left out'
    ]


def test_what_would_be_waited_for_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path / 'a.png')
    os.mkfifo(tmp_path / 'b.png')
    (tmp_path / 'c.png').symlink_to('b.png')
    assert find_images(tmp_path) == [tmp_path / 'a.png']
    assert caplog.messages == [
        f'{tmp_path / name} is no file: left out' for name in ('b.png', 'c.png')
    ]


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / 'locked' / 'a.png')
    scan = os.scandir

    def refuse(path: Path) -> object:  # root may read everything
        if Path(path).name == 'locked':
            raise PermissionError(13, 'Permission denied')
        return scan(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(MultishiftError, match=r'locked: cannot be read \(Permission denied\)'):
        find_images(tmp_path)


def test_where_there_is_no_image_some_of_what_there_is_is_named(tmp_path: Path) -> None:
    for kind in 'abcdefgh':
        touch(tmp_path / f'file.{kind}')
    some = r'in it, but \.a, \.b, \.c, \.d, \.e, \.f, \.\.\.: name'
    with pytest.raises(MultishiftError, match=some):
        find_images(tmp_path)

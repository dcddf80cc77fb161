# SPDX-License-Identifier: Apache-2.0
"""What a pattern matches: as glob says, but that nobody goes round in links."""

from __future__ import annotations

from collections.abc import Iterator
from glob import glob
import os
from pathlib import Path

import pytest

from multishift_perception.folders import matching

FILES = (
    '1.png',
    '2.jpg',
    '.3.png',
    'a/4.png',
    'a/b/5.png',
    'a/b/[6].png',
    '.c/7.png',
    'd e/8\n.png',
)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*FILES, os.fsdecode(b'a/\xff.png')):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'a/gone.png').symlink_to('nowhere')
    (tmp_path / 'd e/more').symlink_to('../a')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(pattern: str) -> list[str]:
    return sorted(str(path) for path in matching(pattern))


def test_a_pattern_matches_what_glob_says(tree: Path) -> None:
    patterns = [
        '*',
        '*.png',
        './*.png',
        '*/',
        '*/*.png',
        '**',
        '**/',
        '**/*.png',
        '*/**/*.png',
        '**/b/*',
    ]
    patterns += [
        'a/**',
        '[ad]*/?.png',
        '**/more/*',
        'a/b/[[]6].png',
        '.*/*.png',
        'a/../*.png',
        'no/*',
    ]
    patterns += [f'{tree}/**/[0-9].png', '1.png/*', '**/b/../*.png', 'a*b/*', '*/*/']
    for pattern in patterns:
        expected = sorted({str(Path(match)) for match in glob(pattern, recursive=True)} - {'.'})
        assert [name for name in found(pattern) if name != '.'] == expected, pattern
    assert found('**/*.png') and found('*/')


def test_links_to_what_they_lie_in_are_not_followed(tree: Path) -> None:
    before = found('**/*.png')
    (tree / 'self').symlink_to('.')
    (tree / 'a/up').symlink_to('..')
    assert found('**/*.png') == before


def test_a_folder_that_cannot_be_read_is_said(
    tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scandir = os.scandir

    def refuse(folder: Path) -> Iterator[os.DirEntry[str]]:
        if folder.name == 'b':
            raise PermissionError(13, 'Permission denied')
        return scandir(folder)

    monkeypatch.setattr(os, 'scandir', refuse)
    assert found('a/*/*.png') == []
    assert caplog.messages == ['a/b cannot be read (Permission denied): left out']

# SPDX-License-Identifier: Apache-2.0
"""Which bags paths, folders and patterns stand for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from multishift_perception.bags.location import locate
from multishift_perception.errors import MultishiftError
from multishift_perception.fleet.folder import file_name_of
from multishift_perception.fleet.sources import find_bags, fingerprint, is_one_bag


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    folder = tmp_path / 'drives'
    for name in (
        'a.mcap',
        'week 10/x.mcap',
        'week 9/x.mcap',
        'week 9/rec/rec_0.db3',
        'week 9/rec/rec_1.db3',
        'week 9/whole/metadata.yaml',
        'week 9/whole/one.mcap',
        '.hidden/b.mcap',
        'notes.txt',
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x')
    (folder / 'z.mcap').symlink_to('a.mcap')
    return folder


def names(*sources: object) -> list[str]:
    return [bag.name for bag in find_bags([str(source) for source in sources])]


def test_a_folder_is_searched_at_any_depth(drives: Path) -> None:
    found = ['a.mcap', 'week 9/rec', 'week 9/whole', 'week 9/x.mcap', 'week 10/x.mcap']
    assert names(drives) == found
    assert names(drives, drives / 'a.mcap', drives / 'week 9') == found
    (drives / '²').mkdir()  # a digit, and no number
    assert names(drives) == found


def test_patterns(drives: Path) -> None:
    assert names(f'{drives}/*/x.mcap') == ['week 9/x.mcap', 'week 10/x.mcap']
    assert names(f'{drives}/week 9/*') == ['rec', 'whole', 'x.mcap']


def test_bags_of_one_name_are_called_by_their_paths(drives: Path) -> None:
    both = [drives / 'week 9/x.mcap', drives / 'week 10/x.mcap']
    assert names(*both) == [str(path) for path in both]
    assert len({file_name_of(name) for name in names(*both)}) == 2


def test_a_path_that_is_another_bags_name_stands_for_one_bag(
    drives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(drives)
    inner = drives / 'archive/week 9/x.mcap'
    inner.parent.mkdir(parents=True)
    inner.write_bytes(b'x')
    found = names('week 9/x.mcap', 'week 10/x.mcap', 'archive')
    assert len(set(found)) == len(found)


def test_a_link_to_a_bag_that_is_gone_is_no_less_a_bag(drives: Path) -> None:
    (drives / 'gone.mcap').symlink_to('/nowhere/gone.mcap')
    (drives / 'gone.txt').symlink_to('/nowhere/gone.txt')
    assert 'gone.mcap' in names(drives) and 'gone.txt' not in names(drives)
    with pytest.raises(MultishiftError, match='a link to /nowhere/gone.mcap, which is not there'):
        locate(drives / 'gone.mcap')


def test_what_holds_no_bag_is_named(drives: Path, tmp_path: Path) -> None:
    for source, words in (
        (drives / 'none.mcap', 'no such bag'),
        (drives / 'notes.txt', 'not a rosbag2 bag'),
        (f'{drives}/*.db3', 'matches no bag'),
        ('', 'BAG is an empty text'),
    ):
        with pytest.raises(MultishiftError, match=words):
            names(source)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(MultishiftError, match='empty'):
        names(tmp_path / 'empty')


def test_one_bag_or_some(drives: Path) -> None:
    for name in ('a.mcap', 'week 9/rec', 'week 9/whole', 'none.mcap'):
        assert is_one_bag(str(drives / name))
    for name in ('.', 'week 9', '*.mcap'):
        assert not is_one_bag(f'{drives}/{name}')


def test_a_folder_makes_the_same_report_when_there_are_more(tmp_path: Path) -> None:
    (tmp_path / 'monday.mcap').write_bytes(b'x')
    assert not is_one_bag(str(tmp_path)) and names(tmp_path) == ['monday.mcap']
    (tmp_path / 'tuesday_0.mcap').write_bytes(b'x')
    assert not is_one_bag(str(tmp_path)) and names(tmp_path) == ['monday.mcap', 'tuesday_0.mcap']
    # What rosbag2 had no time to finish: without metadata.yaml, named as its folder is.
    cut = tmp_path / 'cut'
    cut.mkdir()
    (cut / 'cut_0.mcap').write_bytes(b'x')
    assert is_one_bag(str(cut)) and names(cut) == ['cut']


def test_a_fingerprint_changes_with_the_files(drives: Path) -> None:
    for path, file in (('a.mcap', 'a.mcap'), ('week 9/rec', 'week 9/rec/rec_1.db3')):
        before = fingerprint(drives / path)
        assert fingerprint(drives / path) == before
        os.utime(drives / file, ns=(1, 1))
        assert fingerprint(drives / path) != before


def test_places_are_file_names() -> None:
    hard = ['a/b', 'a%2Fb', '.hidden', '..', 'x' * 300, 'x' * 301, 'ä b', 'a\udcff']
    places = [file_name_of(name) for name in hard]
    assert len(set(places)) == len(hard)
    assert all('/' not in p and not p.startswith('.') and len(p) < 200 for p in places)

# SPDX-License-Identifier: Apache-2.0
"""What commands may write over, and what they refuse before they begin."""

from __future__ import annotations

from collections.abc import Callable
import errno
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

import pytest

from multishift_perception.bags import EPOCH_NS, BagWriter
from multishift_perception.destinations import (
    BAG,
    check_bundle,
    check_file,
    check_folder,
    keeping_others_out,
    report_of,
)
from multishift_perception.errors import MultishiftError

REPORT = report_of('multishift replay')


def fault(check: Callable[..., None], *arguments: object, **options: object) -> str:
    with pytest.raises(MultishiftError) as caught:
        check(*arguments, **options)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def write_bag(path: Path) -> Path:
    with BagWriter(path) as bag:
        bag.string('/said', EPOCH_NS, 'hello')
    return path


def write_report(folder: Path, command: str = 'multishift replay') -> Path:
    folder.mkdir()
    (folder / 'metrics.json').write_text(json.dumps({'command': command}))
    return folder


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / 'papers'
    folder.mkdir()
    for name in ('a.pdf', 'b.pdf', 'c.pdf', 'd.pdf'):
        (folder / name).touch()
    return folder


def test_link_that_leads_to_itself(tmp_path: Path) -> None:
    loop = tmp_path / 'loop.jpg'
    loop.symlink_to(loop.name)
    check_folder(tmp_path / 'out', REPORT, option='--out', force=False, reads=[loop])
    assert 'loop.jpg is no folder' in fault(
        check_folder, loop, REPORT, option='--out', force=False
    )


def test_bag(tmp_path: Path) -> None:
    new = tmp_path / 'not' / 'there' / 'new.mcap'
    check_file(new, BAG, force=False)
    assert list(tmp_path.iterdir()) == []
    bag = write_bag(tmp_path / 'old.mcap')
    assert f'{bag} exists: give --force to replace it' in fault(check_file, bag, BAG, force=False)
    check_file(bag, BAG, force=True, reads=(tmp_path, None, tmp_path / 'absent'))
    link = tmp_path / 'link.mcap'
    link.symlink_to(bag)
    assert f'{bag} is what is read' in fault(check_file, bag, BAG, force=True, reads=[link])


@pytest.mark.parametrize('force', [False, True])
def test_what_is_no_bag_stays(tmp_path: Path, papers: Path, force: bool) -> None:
    text = tmp_path / 'notes.mcap'
    text.write_text('notes')
    dangling = tmp_path / 'dangling.mcap'
    dangling.symlink_to(tmp_path / 'nowhere')
    pipe = tmp_path / 'pipe.mcap'
    os.mkfifo(pipe)
    for path in (text, dangling, pipe):
        assert 'exists: only a bag that was made here is replaced; name another file' in fault(
            check_file, path, BAG, force=force
        )
    assert f'{papers} is a folder' in fault(check_file, papers, BAG, force=force)


def test_report(tmp_path: Path, papers: Path) -> None:
    options: dict[str, Any] = {'option': '--out', 'scraps': ('log', 'part_*')}
    check_folder(tmp_path / 'a' / 'new', REPORT, force=False, **options)
    started = tmp_path / 'started'
    for name in ('log', '.bags.x', 'part_1'):
        (started / name).mkdir(parents=True)
    check_folder(started, REPORT, force=False, **options)
    old = write_report(tmp_path / 'old')
    assert fault(check_folder, old, REPORT, force=False, **options) == (
        f'{old} holds a report of `multishift replay`: give --force to replace it, or give '
        'another folder with --out'
    )
    check_folder(old, REPORT, force=True, **options)
    for force in (False, True):
        assert fault(check_folder, papers, REPORT, force=force, **options) == (
            f'{papers} holds a.pdf, b.pdf, c.pdf and 1 more: only a report of `multishift replay`'
            ' is replaced; give another folder with --out'
        )
    other = write_report(tmp_path / 'other', 'multishift demo')
    assert 'other holds metrics.json: only' in fault(
        check_folder, other, REPORT, force=True, **options
    )
    (other / 'metrics.json').write_text('[no JSON')
    assert 'only a report' in fault(check_folder, other, REPORT, force=True, **options)


def test_report_is_not_written_where_its_input_lies(tmp_path: Path) -> None:
    folder = write_report(tmp_path / 'report')
    bag = write_bag(folder / 'drive.mcap')
    text = fault(check_folder, folder, REPORT, option='--out', force=True, reads=[None, bag])
    assert text == f'{folder} holds {bag}, which is read: give another folder with --out'
    text = fault(check_folder, bag, REPORT, option='--out', force=True, reads=[bag])
    assert text == f'{bag} is no folder: give another folder with --out'


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / 'bundle'))


@pytest.mark.slow
def test_bundle_is_replaced_and_nothing_else(tmp_path: Path, papers: Path, bundle: Path) -> None:
    empty = tmp_path / 'empty'
    empty.mkdir()
    weights = tmp_path / 'best.safetensors'
    weights.touch()
    for path in (tmp_path / 'new', empty, bundle):
        check_bundle(path, option='--out', reads=[weights])
    (bundle / '.manifest.yaml.killed.part').mkdir()
    check_bundle(bundle, option='--out', reads=[weights])
    edited = Path(shutil.copytree(bundle, tmp_path / 'edited'))
    (edited / '.manifest.yaml.swp').touch()  # of an editor that is open
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'config.yaml').write_text('model: compact')
    (run / '.hidden').touch()
    (bundle / 'notes.txt').touch()
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'manifest.yaml').write_text('schema_version: 1')
    for path in (papers, run, bundle, edited, other):
        before = sorted(path.iterdir())
        text = fault(check_bundle, path, option='--out', reads=[weights])
        assert 'only an engine bundle with nothing beside it is replaced' in text
        assert sorted(path.iterdir()) == before
    assert 'is no folder' in fault(check_bundle, weights, option='--out', reads=[])


def test_bundle_is_not_the_current_folder_nor_above_what_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / 'run' / 'best.safetensors'
    weights.parent.mkdir()
    weights.touch()
    for path in (tmp_path, weights.parent):
        assert f'{path} holds {weights}, which is read' in fault(
            check_bundle, path, option='--out', reads=[weights]
        )
    empty = tmp_path / 'empty' / 'below'
    empty.mkdir(parents=True)
    monkeypatch.chdir(empty)
    for name in ('.', '..', '/', '../below', str(empty)):
        assert 'is the current folder, one above it, or a disk' in fault(
            check_bundle, Path(name), option='--out', reads=[]
        )
    check_bundle(Path('new'), option='--out', reads=[weights])
    # A link to the current folder is the current folder.
    (tmp_path / 'link').symlink_to(empty)
    assert 'current folder' in fault(check_bundle, tmp_path / 'link', option='--out', reads=[])


def test_links_are_not_replaced(tmp_path: Path, tiny_bundle: Path) -> None:
    bag = write_bag(tmp_path / 'v3.mcap')
    for name, target in (('now.mcap', bag), ('current', tiny_bundle)):
        (tmp_path / name).symlink_to(target)
    said = fault(check_file, tmp_path / 'now.mcap', BAG, force=True)
    assert said.endswith(f'is a link to {bag}: name another file, or name that')
    said = fault(check_bundle, tmp_path / 'current', option='--out', reads=[])
    assert f'is a link to {tiny_bundle}: ' in said


def test_bundle_is_not_a_disk() -> None:
    assert 'or a disk' in fault(check_bundle, Path('/dev/shm'), option='--out', reads=[])


@pytest.mark.parametrize('below', ['file/new', 'file/new/deeper', 'dangling/new'])
def test_places_that_cannot_be_written(tmp_path: Path, below: str) -> None:
    (tmp_path / 'file').touch()
    (tmp_path / 'dangling').symlink_to(tmp_path / 'nowhere')
    for path in (tmp_path / below, Path('/proc') / below, tmp_path / ('long' * 100)):
        told = f'{path} cannot be written ('
        assert told in fault(check_file, path, BAG, force=True)
        assert told in fault(check_folder, path, REPORT, option='--out', force=True)
        assert told in fault(check_bundle, path, option='--out', reads=[])


def test_folder_that_is_read_only(
    tmp_path: Path, unshared: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Also to those who may write everything: the disk is mounted so."""
    code = (
        'import sys; from pathlib import Path; from multishift_perception.destinations import *;'
        "check_folder(Path(sys.argv[1]), BAG, option='--out', force=True)"
    )
    script = 'mount -t tmpfs -o ro none "$1" && exec "$2" -c "$3" "$1"'
    done = unshared(script, tmp_path, sys.executable, code)
    assert f'{tmp_path} cannot be written (Read-only file system)' in done.stderr


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = errno.ENOSYS

    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr('fcntl.flock', refuse)
    with keeping_others_out(tmp_path, option='--out'):
        (tmp_path / '.lock').touch()  # another program's
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']
    code = errno.EIO
    with (
        pytest.raises(MultishiftError, match=r'\.lock cannot be written \(.*--out$'),
        keeping_others_out(tmp_path, option='--out'),
    ):
        pytest.fail('begun')

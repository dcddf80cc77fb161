# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import os
from pathlib import Path
import signal
import subprocess
import sys

from filelock import Timeout
import pytest

from multishift_perception import files


def test_file_appears_whole(tmp_path: Path) -> None:
    files.write_text(tmp_path / 'new' / 'a.txt', 'grün')
    assert (tmp_path / 'new' / 'a.txt').read_bytes() == 'grün'.encode()
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['a.txt']


@pytest.mark.parametrize('letter', ['a', 'ü'])
def test_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path, letter: str) -> None:
    size = len(letter.encode())
    path = tmp_path / ('x' * (251 % size) + letter * (251 // size) + '.txt')
    left = tmp_path / (files._scratch_prefix(path) + 'dead' + files._PART)
    left.mkdir()
    files.write_text(path, 'whole')
    files.remove_leftovers(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == 'whole'


def test_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with pytest.raises(RuntimeError), files.replacing(path) as fresh:
        fresh.write_text('half')
        raise RuntimeError
    assert path.read_text() == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['a.txt']


def test_directory_replaces_a_directory_with_content(tmp_path: Path) -> None:
    path = tmp_path / 'bundle'
    path.mkdir()
    (path / 'old').write_text('old')
    with files.replacing(path) as fresh:
        fresh.mkdir()
        (fresh / 'new').write_text('new')
        assert (path / 'old').exists()
    assert [p.name for p in path.iterdir()] == ['new']
    assert [p.name for p in tmp_path.iterdir()] == ['bundle']


def test_kill_leaves_the_old_directory(tmp_path: Path) -> None:
    path = tmp_path / 'bundle'
    path.mkdir()
    (path / 'old').write_text('old')
    script = (
        'import os, signal, sys; from pathlib import Path\n'
        'from multishift_perception import files\n'
        'with files.replacing(Path(sys.argv[1])) as fresh:\n'
        '    fresh.mkdir(); (fresh / "new").write_text("half")\n'
        '    os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    done = subprocess.run([sys.executable, '-c', script, str(path)], env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    assert [p.name for p in path.iterdir()] == ['old']
    # What it left goes when told, and nothing else does: neither other folders, nor what is
    # being written.
    assert len(list(tmp_path.glob('.bundle.*'))) == 1
    (tmp_path / '.other.half').mkdir()
    (tmp_path / '.bundle.settings').mkdir()
    with files.replacing(path) as fresh:
        fresh.mkdir()
        files.remove_leftovers(path)
        left = {p.name for p in tmp_path.glob('.bundle.*')}
        assert left == {'.bundle.settings', fresh.parent.name}
    assert {p.name for p in tmp_path.iterdir()} == {'bundle', '.other.half', '.bundle.settings'}


@pytest.mark.parametrize(
    ('owner', 'moment'),
    [('FileLock', 'acquire'), ('fcntl', 'flock'), ('Path', 'unlink'), ('Path', 'rmdir')],
)
def test_kill_around_the_lock_leaves_nothing_for_good(
    tmp_path: Path, owner: str, moment: str
) -> None:
    script = (
        'import fcntl, os, signal, sys; from pathlib import Path\n'
        'from filelock import FileLock\n'
        'from multishift_perception import files\n'
        'def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n'
        f'{owner}.{moment} = die\n'
        'with files.replacing(Path(sys.argv[1])) as fresh:\n'
        '    fresh.write_text("new"); (fresh.parent / "more").write_text("more")\n'
    )
    path = tmp_path / 'a.txt'
    done = subprocess.run([sys.executable, '-c', script, str(path)], env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob('.a.txt.*'))) == 1
    files.remove_leftovers(path)
    assert not list(tmp_path.glob('.a.txt.*'))


def test_folder_taken_for_a_leftover_as_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process removes leftovers between the making of a folder and its lock."""
    flock = fcntl.flock

    def flock_late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, 'flock', flock)
        [file] = tmp_path.glob('.a.txt.*/*')
        files.remove_leftovers(tmp_path / 'a.txt')
        assert not file.exists()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, 'flock', flock_late)
    files.write_text(tmp_path / 'a.txt', 'new')
    assert (tmp_path / 'a.txt').read_text() == 'new'
    assert [p.name for p in tmp_path.iterdir()] == ['a.txt']


# Holds a lock, as a forked process would that goes on living; says so, and waits.
HOLDER = """
import os, sys
from pathlib import Path
from multishift_perception.files import file_lock
with file_lock(Path(sys.argv[1])):
    if os.fork() == 0:  # the child has let go of it by now
        print('held', flush=True)
    sys.stdin.read()
"""


def test_lock_is_one_process_s_until_it_ends(tmp_path: Path) -> None:
    file = tmp_path / 'lock'
    with subprocess.Popen(
        [sys.executable, '-c', HOLDER, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(Timeout):
            files.file_lock(file).acquire(blocking=False)
        holder.kill()
        holder.wait()
        with files.file_lock(file).acquire(blocking=False):
            assert holder.poll() is not None
            with pytest.raises(Timeout):
                files.file_lock(file).acquire(blocking=False)
    assert file.exists()


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / 'a').write_bytes(b'abc')
    assert files.sha256(tmp_path / 'a').startswith('ba7816bf8f01cfea')

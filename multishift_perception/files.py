# SPDX-License-Identifier: Apache-2.0
"""File writes that are whole or absent, locks, and content hashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import ctypes
import glob
import hashlib
import json
import os
from pathlib import Path
import shutil
import tempfile

from filelock import FileLock, Timeout

from multishift_perception.disk import reporting_full_disk

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# A key and its value in the metadata of what we write: who may replace it goes by that.
WRITTEN_BY = ('written_by', 'multishift_perception')
# The numbers of every report, which say what command they are of.
METRICS = 'metrics.json'
# In every scratch folder; locked as long as the process that fills it lives.
_LOCK = '.replacing'
# How the names of scratch folders end.
_PART = '.part'
# Bytes of a name that they begin with: file systems allow 255, of which some are random.
_LONGEST_PREFIX = 200


def command_of(folder: Path) -> str | None:
    """Return the command of ours whose report a folder holds; None where it holds none.

    Other programs write files of that name, too, and may note their own commands in them.
    """
    try:
        content = json.loads((folder / METRICS).read_text())
    except (OSError, ValueError, RecursionError):  # the last, of lists in lists in lists
        return None
    command = content.get('command') if isinstance(content, dict) else None
    is_ours = isinstance(command, str) and command.startswith('multishift ')
    return command if is_ours else None


def file_lock(path: Path) -> FileLock:
    """Return a lock by which one process keeps others out: in use between acquire and release.

    It ends with the process, in whatever way that ends; processes that were forked meanwhile do
    not keep it. The file stays. Not to be waited for by the thread that has it.

    Args:
        path: the lock's file, made where there is none.
    """
    # Where a file system has no locks, that is an error: a file that stands for one instead
    # would outlive a process that is killed.
    return FileLock(path, thread_local=False, fallback_to_soft=False)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Yield whether a lock is this process's for the block; it is not waited for.

    Processes that share out work, on one machine or on several that share a folder, do so by one
    lock for each piece of it.

    Args:
        path: the lock's file, made where there is none.
    """
    try:
        held = file_lock(path).acquire(blocking=False)
    except Timeout:
        yield False
        return
    with held:
        yield True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds.

    The caller creates a file or a directory at the yielded path. After an exception, or a kill at
    any moment, ``path`` is what it was before.

    Raises:
        FullDiskError: there is no room on the disk.
    """
    with reporting_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(path) as scratch:
            fresh = scratch / path.name
            yield fresh
            try:
                os.replace(fresh, path)
            except OSError:
                # Asked for only now: another process may have put a directory there a moment ago.
                if not path.is_dir():
                    raise
                _exchange(fresh, path)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside ``path``, named after it, that lives as long as the block.

    After a kill, `remove_leftovers` of ``path`` removes it.
    """
    scratch, lock = _new_scratch(path)
    try:
        yield scratch
    finally:
        try:
            _remove_scratch(scratch)
        finally:  # a signal that ends the command may have come in the middle
            _remove_scratch(scratch)
            lock.release()


def remove_leftovers(path: Path) -> None:
    """Remove the scratch folders that killed processes left beside ``path``.

    What living processes write there stays.
    """
    for scratch in path.parent.glob(f'{glob.escape(_scratch_prefix(path))}*{_PART}'):
        if (scratch / _LOCK).exists():
            with suppress(Timeout), file_lock(scratch / _LOCK).acquire(blocking=False):
                _remove_scratch(scratch)
        else:
            # Killed before it had a lock, or after; empty then. One in use is not.
            with suppress(OSError):
                scratch.rmdir()


def is_leftover(path: Path, of: str) -> bool:
    """Return whether a path is named as the scratch folders of a file of a name, beside it."""
    return path.name.startswith(_scratch_prefix(Path(of))) and path.name.endswith(_PART)


def _scratch_prefix(path: Path) -> str:
    # A file's name may be as long as the file system allows, its scratch folder's no longer.
    return os.fsdecode(os.fsencode(f'.{path.name}')[:_LONGEST_PREFIX]) + '.'


def _new_scratch(path: Path) -> tuple[Path, FileLock]:
    """Return a new folder beside ``path`` and the lock that is held while it is in use."""
    while True:
        scratch = Path(tempfile.mkdtemp(_PART, _scratch_prefix(path), path.parent))
        lock = file_lock(scratch / _LOCK)
        try:
            lock.acquire(blocking=False)
        except (Timeout, FileNotFoundError):
            continue  # another process took the folder for a leftover before it was locked
        except BaseException:
            _remove_scratch(scratch)
            raise
        return scratch, lock


def _remove_scratch(scratch: Path) -> None:
    """Remove a scratch folder; the lock last, so that a kill leaves nothing that nobody finds."""
    with suppress(OSError):
        for path in scratch.iterdir():
            if path.name == _LOCK:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        (scratch / _LOCK).unlink(missing_ok=True)
        scratch.rmdir()


def _exchange(first: Path, second: Path) -> None:
    """Swap two directories in one step: ``os.replace`` refuses to replace one that has content."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    )
    if done != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(second))


def remove_empty(path: Path, *, above: Path) -> None:
    """Remove a folder if it is empty, and then those that it lies in, as far as one of them."""
    with suppress(OSError):
        while path != above:
            path.rmdir()
            path = path.parent


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with replacing(path) as fresh:
        fresh.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8; bytes of names that are no text escaped."""
    write_bytes(path, text.encode(errors='backslashreplace'))


def write_json(path: Path, content: object) -> None:
    """Write ``content`` to ``path`` atomically, as JSON for people and programs."""
    write_text(path, json.dumps(content, indent=2) + '\n')


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()

# SPDX-License-Identifier: Apache-2.0
"""Decides, before a command begins, whether it may write where it was told to.

A command writes to what is absent or empty, and over its own kind of output where that is wanted.
It never replaces anything else, nor what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
import errno
from fnmatch import fnmatch
import os
from pathlib import Path
import struct
import tempfile

from mcap.exceptions import McapError
from mcap.reader import make_reader

from multishift_perception.disk import is_full_disk, reporting_full_disk
from multishift_perception.engine.manifest import MANIFEST, read_manifest
from multishift_perception.errors import MultishiftError
from multishift_perception.files import (
    WRITTEN_BY,
    claimed,
    command_of,
    is_leftover,
    remove_empty,
)

DEMO, REPLAY, EVALUATE = 'multishift demo', 'multishift replay', 'multishift evaluate'
REPLAY_MANY = 'multishift replay BAG...'
CALIBRATE, PREDICT = 'multishift engine calibrate', 'multishift predict'

_SHOWN = 3
# Bytes of a Rerun recording that hold its first record.
_HEAD = 512
# What systems say of files that cannot be locked where they are.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@dataclass(frozen=True)
class Kind:
    """A kind of output.

    Attributes:
        name: in words, with its article.
        is_own: whether a path that exists holds one.
    """

    name: str
    is_own: Callable[[Path], bool]


def report_of(command: str) -> Kind:
    """Return the kind of a command's report."""
    return Kind(f'a report of `{command}`', lambda folder: command_of(folder) == command)


def _is_bag(path: Path) -> bool:
    """Whether a file is a bag that we wrote: a recording may not exist a second time."""
    if not path.is_file():
        return False
    try:
        with path.open('rb') as file:
            records = list(make_reader(file).iter_metadata())
    except (McapError, ValueError, struct.error):
        return False
    written_by = ': '.join(WRITTEN_BY)
    return any(written_by in record.metadata.get('serialized_metadata', '') for record in records)


def _is_recording(path: Path) -> bool:
    """Whether a file is a Rerun recording of ours: the first record names who made it."""
    if not path.is_file():
        return False
    with path.open('rb') as file:
        head = file.read(_HEAD)
    return head.startswith(b'RRF') and WRITTEN_BY[1].encode() in head


def _is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle and nothing else: it is replaced as a whole."""
    try:
        known = {MANIFEST, *read_manifest(folder).hashes}
    except MultishiftError:
        return False
    # What a killed `multishift engine verify` left goes with the bundle.
    return all(p.name in known or is_leftover(p, MANIFEST) for p in folder.iterdir())


BAG = Kind('a bag that was made here', _is_bag)
RECORDING = Kind('a recording that was made here', _is_recording)
BUNDLE = Kind('an engine bundle with nothing beside it', _is_bundle)


def check_file(path: Path, kind: Kind, *, force: bool, reads: Iterable[Path | None] = ()) -> None:
    """See that a file may be written.

    Args:
        path: the file.
        kind: what the command writes.
        force: whether one of that kind may be replaced.
        reads: what the command reads; None for what it was not given.

    Raises:
        MultishiftError: something else is there, or it cannot be written.
    """
    mend = 'name another file'
    with _in_one_line(path, mend):
        if path.is_dir():
            raise MultishiftError(f'{path} is a folder: {mend}')
        for source in reads:
            if source is not None and source.exists() and path.exists() and path.samefile(source):
                raise MultishiftError(f'{path} is what is read: {mend}')
        if os.path.lexists(path):
            if not kind.is_own(path):
                raise MultishiftError(f'{path} exists: only {kind.name} is replaced; {mend}')
            _refuse_link(path, mend)
            if not force:
                raise MultishiftError(f'{path} exists: give --force to replace it, or {mend}')
        _try_writing(path.parent)


def check_folder(
    path: Path,
    kind: Kind,
    *,
    option: str,
    force: bool,
    reads: Iterable[Path | None] = (),
    scraps: Sequence[str] = (),
) -> None:
    """See that files may be written into a folder; those that others put there stay.

    Args:
        path: the folder.
        kind: what the command writes.
        option: that names the folder.
        force: whether one of that kind may be replaced.
        reads: what the command reads; None for what it was not given.
        scraps: name patterns of what the command leaves where it is stopped. Hidden files are
            nobody's output.

    Raises:
        MultishiftError: something else is there, or it cannot be written.
    """
    mend = f'give another folder with {option}'
    with _in_one_line(path, mend):
        _check_place(path, reads, mend)
        names = _names(path)
        names = [name for name in names if not any(fnmatch(name, p) for p in ('.*', *scraps))]
        _check_content(path, names, kind, mend, force=force)
        _try_writing(path)


@contextmanager
def keeping_others_out(folder: Path, *, option: str) -> Iterator[None]:
    """Let no other process of ours write into a folder meanwhile: outputs of two would be mixed.

    Folders that were made for it are gone after it where the block has left nothing in them.

    Args:
        folder: that `check_folder` has seen just now.
        option: that names it.

    Raises:
        MultishiftError: another process is at it, or its lock cannot be written.
    """
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    lock = folder / '.multishift.lock'  # no name of anybody else's: it is removed
    with ExitStack() as stack:
        stack.callback(remove_empty, folder, above=standing)
        with _in_one_line(lock, f'give another folder with {option}'):
            try:
                own = stack.enter_context(claimed(lock))
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                own = True  # the file system has none: whoever shares it sees to that
        if not own:
            raise MultishiftError(
                f'{folder} is being written by another process: wait for its end, or give '
                f'another folder with {option}'
            )
        stack.callback(lock.unlink, missing_ok=True)
        yield


def check_bundle(
    path: Path, *, option: str, reads: Iterable[Path | None], force: bool = True
) -> None:
    """See that an engine bundle may be written; an older one there is replaced as a whole.

    Args:
        path: the bundle.
        option: that names it.
        reads: what the command reads.
        force: whether an older one may be replaced.

    Raises:
        MultishiftError: something else is there, or it cannot be written.
    """
    mend = f'give another folder with {option}'
    with _in_one_line(path, mend):
        _check_place(path, reads, mend)
        if holds(path, Path.cwd()) or path.is_mount():
            raise MultishiftError(
                f'{path} is the current folder, one above it, or a disk: {mend}, a new one'
            )
        _refuse_link(path, mend)
        _check_content(path, _names(path), BUNDLE, mend, force=force)
        _try_writing(path.parent)


def _refuse_link(path: Path, mend: str) -> None:
    """Refuse a link, which would be replaced while what it leads to stays as it is."""
    if path.is_symlink():
        raise MultishiftError(f'{path} is a link to {path.readlink()}: {mend}, or name that')


def _check_place(path: Path, reads: Iterable[Path | None], mend: str) -> None:
    if os.path.lexists(path) and not path.is_dir():
        raise MultishiftError(f'{path} is no folder: {mend}')
    for source in reads:
        if source is not None and holds(path, source):
            raise MultishiftError(f'{path} holds {source}, which is read: {mend}')


def _check_content(
    path: Path, names: Sequence[str], kind: Kind, mend: str, *, force: bool
) -> None:
    if not names:
        return
    if not kind.is_own(path):
        more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
        raise MultishiftError(
            f'{path} holds {", ".join(names[:_SHOWN])}{more}: only {kind.name} is replaced; {mend}'
        )
    if not force:
        raise MultishiftError(f'{path} holds {kind.name}: give --force to replace it, or {mend}')


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def holds(folder: Path, path: Path) -> bool:
    """Whether a path is a folder or lies in it."""
    # Of links that lead to themselves, pathlib raises before Python 3.13.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _try_writing(folder: Path) -> None:
    """Write a file that nobody sees into a folder, or into the one that it would be made in."""
    while not os.path.lexists(folder):
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b'room?')


@contextmanager
def _in_one_line(path: Path, mend: str) -> Iterator[None]:
    with reporting_full_disk(path):
        try:
            yield
        except OSError as error:
            if is_full_disk(error):
                raise
            raise MultishiftError(f'{path} cannot be written ({error.strerror}): {mend}') from None

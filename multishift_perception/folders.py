# SPDX-License-Identifier: Apache-2.0
"""What folders hold, in order, and what of it a pattern such as ``drives/**/*.mcap`` matches."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from glob import has_magic
from itertools import takewhile
import logging
import os
from pathlib import Path
import re

logger = logging.getLogger(__name__)

# Device and number of each folder that something was found in.
Above = tuple[tuple[int, int], ...]


def entries(folder: Path, above: Above) -> tuple[list[os.DirEntry[str]], Above]:
    """Return what a folder holds, by name, and what that is in; nothing where it is no folder.

    A folder that is found in itself holds nothing: with two links to one that they lie in, who
    follows them goes round for years.

    Args:
        folder: where to look.
        above: the folders that it was found in.

    Raises:
        OSError: it cannot be read.
    """
    try:
        status = folder.stat()
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return [], above
    here = status.st_dev, status.st_ino
    return ([], above) if here in above else (found, (*above, here))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one."""
    # Of a link that leads to itself, an entry raises, where os.path says no.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def natural(path: Path) -> tuple[list[list[str | int]], str]:
    """Return a key that sorts paths by the values of numbers in them: 9 comes before 10."""
    # Text and numbers alternate, so that equal places always compare.
    pieces = [re.split(r'(\d+)', part) for part in path.parts]
    return [[int(p) if i % 2 else p for i, p in enumerate(ps)] for ps in pieces], str(path)


def matching(pattern: str) -> Iterator[Path]:
    """Yield what a pattern matches, each once: as `glob.glob` does where ``**`` is any depth.

    Links to folders are followed, except to one that the link itself lies in. Folders that cannot
    be read are said.
    """
    found = dict.fromkeys(_matches(Path(), Path(pattern).parts, ()))
    for path in found:
        if path.is_dir() or not pattern.endswith('/'):
            yield path


def named_folder(pattern: str) -> Path:
    """Return the folder that a pattern names as it is, before the first part that matches."""
    return Path(*takewhile(lambda part: not has_magic(part), Path(pattern).parts))


def _matches(folder: Path, parts: tuple[str, ...], above: Above) -> Iterator[Path]:
    """Yield what matches below a folder.

    Args:
        folder: where to look; what is no folder holds nothing.
        parts: of the pattern, those that are left.
        above: the folders that it was found in.
    """
    if not parts:
        yield folder
        return
    first, rest = parts[0], parts[1:]
    if not has_magic(first):
        if os.path.lexists(folder / first):
            yield from _matches(folder / first, rest, above)
        return
    if first == '**':  # no folder at all
        yield from _matches(folder, rest, above)
    try:
        found, inside = entries(folder, above)
    except OSError as error:
        logger.warning('%s cannot be read (%s): left out', folder, error.strerror)
        return
    for entry in found:
        path = folder / entry.name
        if entry.name.startswith('.') and not first.startswith('.'):
            continue
        if first == '**':
            if is_folder(entry):
                yield from _matches(path, parts, inside)
            elif not rest:
                yield path
        elif fnmatchcase(entry.name, first):
            yield from _matches(path, rest, inside)

# SPDX-License-Identifier: Apache-2.0
"""The files and folders that a pattern such as ``drives/**/*.mcap`` matches."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from glob import has_magic
from itertools import takewhile
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


def matching(pattern: str) -> Iterator[Path]:
    """Yield what a pattern matches, each once: as `glob.glob` does where ``**`` is any depth.

    Links to folders are followed, except to one that the link itself lies in: with two of those
    `glob` goes round for years. Folders that cannot be read are said.
    """
    found = dict.fromkeys(_matches(Path(), Path(pattern).parts, ()))
    for path in found:
        if path.is_dir() or not pattern.endswith('/'):
            yield path


def named_folder(pattern: str) -> Path:
    """Return the folder that a pattern names as it is, before the first part that matches."""
    return Path(*takewhile(lambda part: not has_magic(part), Path(pattern).parts))


def _matches(
    folder: Path, parts: tuple[str, ...], above: tuple[tuple[int, int], ...]
) -> Iterator[Path]:
    """Yield what matches below a folder.

    Args:
        folder: where to look; what is no folder holds nothing.
        parts: of the pattern, those that are left.
        above: device and number of the folders that it was found in.
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
        status = folder.stat()
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        logger.warning('%s cannot be read (%s): left out', folder, error.strerror)
        return
    here = status.st_dev, status.st_ino
    if here in above:
        return
    for name in names:
        path = folder / name
        if name.startswith('.') and not first.startswith('.'):
            continue
        if first == '**':
            if os.path.isdir(path):
                yield from _matches(path, parts, (*above, here))
            elif not rest:
                yield path
        elif fnmatchcase(name, first):
            yield from _matches(path, rest, (*above, here))

# SPDX-License-Identifier: Apache-2.0
"""Which files under a folder are images: for bags, data sets and augmentation alike."""

from __future__ import annotations

from collections.abc import Iterator
import logging
import os
from pathlib import Path

from multishift_perception.errors import MultishiftError
from multishift_perception.folders import Above, entries, is_folder

logger = logging.getLogger(__name__)

PICTURES = ('.jpg', '.jpeg', '.png', '.webp')

# Archives made on a Mac hold a file of attributes there for each of theirs.
_FOREIGN = '__MACOSX'


def list_files(folder: Path, depth: int | None = None) -> Iterator[Path]:
    """Yield the files under a folder, sorted within each folder; none where it is missing.

    Links to folders are followed, except to one that the link itself lies in. What an operating
    system or viewer left is not listed: hidden files and folders, and ``__MACOSX``; nor is what
    is no file, such as a pipe. A link to a file that is not there is listed, so that reading it
    names it.

    Args:
        folder: where to look; it may be hidden itself.
        depth: levels to look at, 1 for the folder alone; None for all.

    Raises:
        MultishiftError: a folder cannot be read.
    """
    yield from _walk(folder, depth, ())


def is_listed(path: Path) -> bool:
    """Return whether what is no folder is a file, or a link to none; what is neither is said.

    A pipe would be waited for without end.
    """
    if os.path.isfile(path) or not os.path.exists(path):
        return True
    logger.warning('%s is no file: left out', path)
    return False


def _walk(folder: Path, depth: int | None, above: Above) -> Iterator[Path]:
    try:
        found, inside = entries(folder, above)
    except OSError as error:
        raise MultishiftError(
            f'{folder}: cannot be read ({error.strerror}): mend its permissions'
        ) from error
    below = None if depth is None else depth - 1
    for entry in found:
        path = folder / entry.name
        if entry.name.startswith('.') or entry.name == _FOREIGN:
            continue
        if not is_folder(entry):
            if entry.is_symlink() and not path.suffix and not os.path.exists(path):
                logger.warning('%s is a link to what is not there: left out', path)
            if entry.is_file(follow_symlinks=False) or is_listed(path):
                yield path
        elif below != 0:
            yield from _walk(path, below, inside)

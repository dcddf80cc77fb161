# SPDX-License-Identifier: Apache-2.0
"""Finds the bags that paths, folders and patterns stand for, and names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
import glob
import hashlib
import os
from pathlib import Path
import re
from typing import NamedTuple

from multishift_perception.bags.location import METADATA, is_bag, locate
from multishift_perception.errors import MultishiftError
from multishift_perception.folders import matching, named_folder, natural


class Source(NamedTuple):
    """A bag among others.

    Attributes:
        name: of the bag, different from those of the others; the same in every run over the same
            folder, wherever it lies.
        path: where it is.
    """

    name: str
    path: Path


def is_one_bag(source: str) -> bool:
    """Return whether what a person calls a source is one bag, and no folder or pattern of some.

    However many a folder holds today: a nightly job over it makes the same kind of report when
    there are more. A folder without ``metadata.yaml`` is one bag where it holds numbered parts of
    one recording, as rosbag2 names them.
    """
    path = Path(source)
    if not path.is_dir():
        return os.path.lexists(path) or not glob.has_magic(source)
    return _is_single(path)


def find_bags(sources: Sequence[str]) -> list[Source]:
    """Return the bags of some sources, each once, in order.

    Args:
        sources: bags, folders that hold some at any depth, or patterns such as ``drives/*.mcap``.

    Raises:
        MultishiftError: a source does not exist, matches nothing or holds no bag.
    """
    found: list[Source] = []
    for source in sources:
        if not source:
            raise MultishiftError(
                'BAG is an empty text: name a bag, a folder of some or a pattern'
            )
        try:
            found += _of(source)
        except PermissionError as error:
            raise MultishiftError(
                f'{source}: cannot be read ({error.strerror}): mend its permissions'
            ) from error
    once: dict[Path, Source] = {}
    for bag in found:
        once.setdefault(bag.path.resolve(), bag)
    return _told_apart(list(once.values()))


def _told_apart(bags: list[Source]) -> list[Source]:
    """Call each of those with one name as it was given, which may be how another is called."""
    while True:
        count = Counter(bag.name for bag in bags)
        apart = [Source(str(b.path), b.path) if count[b.name] > 1 else b for b in bags]
        if apart == bags:
            return bags
        bags = apart


def fingerprint(path: Path) -> str:
    """Return what changes when a bag does: names, sizes and times of its files, hashed.

    Raises:
        OSError: a file cannot be looked at.
    """
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    looks = [f'{f.name} {(s := f.stat()).st_size} {s.st_mtime_ns}' for f in files]
    return hashlib.sha256('\n'.join(looks).encode(errors='surrogateescape')).hexdigest()[:16]


def _of(source: str) -> list[Source]:
    path = Path(source)
    if os.path.lexists(path):
        return _inside(path)
    if not glob.has_magic(source):
        raise MultishiftError(f'{source}: no such bag; check the path')
    matches = sorted(matching(source), key=natural)
    root = named_folder(source)
    bags = [bag for match in matches for bag in _walk(match, root)]
    if not bags:
        raise MultishiftError(f'{source}: matches no bag (.mcap, .db3 or a rosbag2 folder)')
    return bags


def _inside(path: Path) -> list[Source]:
    """Return the bag that a path is, or the bags in it; what is neither is said by name."""
    if _is_single(path):
        if not is_bag(path):
            locate(path)  # says what it is instead
        return [Source(path.name or str(path), path)]
    if bags := list(_walk(path, path)):
        return bags
    locate(path)
    return []


def _is_single(path: Path) -> bool:
    """Return whether a path is no folder, or a folder that is one bag."""
    if not path.is_dir() or (path / METADATA).exists():
        return True
    inner = list(path.iterdir())
    files = [path for path in inner if path.is_file() and is_bag(path)]
    if any(path.is_dir() and not path.name.startswith('.') for path in inner):
        return False
    parts = [re.fullmatch(r'(.*)_\d+', file.name.partition('.')[0]) for file in files]
    recordings = {part and part[1] for part in parts}
    # A single file is a part where it is called as its folder is.
    is_one = len(recordings) == 1 and None not in recordings
    return is_one and (len(files) > 1 or recordings == {path.resolve().name})


def _walk(path: Path, root: Path) -> Iterator[Source]:
    """Yield bags in natural order; hidden folders and links to folders are left out."""
    if _is_single(path):
        if is_bag(path):
            yield Source(path.relative_to(root).as_posix(), path)
        return
    for inner in sorted(path.iterdir(), key=natural):
        is_hidden = inner.name.startswith('.') or (inner.is_dir() and inner.is_symlink())
        if not is_hidden:
            yield from _walk(inner, root)

# SPDX-License-Identifier: Apache-2.0
"""Finds the files of a bag, and tells what a path is that is no bag."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
import shlex
from typing import Any

import yaml

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.folders import natural
from multishift_perception.images.listing import PICTURES

METADATA = 'metadata.yaml'
COMPRESSED = '.zstd'
ROS1_MAGIC = b'#ROSBAG V'

_STORAGES = ('.mcap', '.db3')
_VIDEOS = ('.mp4', '.avi', '.mkv', '.mov', '.webm', '.m4v', '.mpg', '.mpeg')
# How many files of a folder tell what it is a folder of.
_LOOK_AT = 10_000


@dataclass
class Location:
    """The files of a bag.

    Attributes:
        files: in order of recording.
        promised: messages by topic as ``metadata.yaml`` counts them; empty without it.
        warnings: what was found amiss, a line each.
    """

    files: list[Path]
    promised: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)


def locate(path: Path) -> Location:
    """Return the files of the bag at ``path``: a file, or a rosbag2 directory.

    Raises:
        MultishiftError: there is no bag; the error names what there is, and the way to a bag.
    """
    if not path.exists():
        if path.is_symlink():
            raise MultishiftError(f'{path}: a link to {path.readlink()}, which is not there')
        raise MultishiftError(f'{path}: no such bag; check the path')
    if path.is_file():
        if not _is_storage(path):
            raise no_bag(path)
        return Location([path])
    present = sorted((p for p in path.iterdir() if _is_storage(p)), key=natural)
    try:
        return _from_metadata(path, present)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        if not present:
            raise no_bag(path) from error
        return Location(present, warnings=[_without_metadata(path, present, error)])


def is_bag(path: Path) -> bool:
    """Return whether a path is a bag, of ROS 1 too, whether or not it can be read.

    A link to a bag that is gone counts: of a disk that is not mounted, nothing goes missing
    without a word.
    """
    if path.is_symlink() and not path.exists():
        return path.name.removesuffix(COMPRESSED).endswith(_STORAGES)
    if path.is_dir():
        return (path / METADATA).exists() or any(_is_storage(p) for p in path.iterdir())
    return path.is_file() and (_is_storage(path) or path.suffix == '.bag' or _begins_as_ros1(path))


def no_bag(path: Path) -> MultishiftError:
    """Return the error for a path that is not a rosbag2 bag: it names the command that helps."""
    kind = path.suffix.lower()
    if path.is_dir():
        inside = islice(path.rglob('*'), _LOOK_AT)
        if any(p.suffix.lower() in PICTURES for p in inside):
            return MultishiftError(
                f'{path}: a folder of images, no bag; see what an engine says of them: '
                f'{_predict(path)}; or {_make_bag(path)}'
            )
        return MultishiftError(
            f'{path}: a folder without {METADATA} and without a .mcap or .db3 file; '
            'pass a bag file or the folder of a bag'
        )
    if kind == '.bag' or _begins_as_ros1(path):
        return MultishiftError(f'{path}: a ROS 1 bag; convert it: {_convert(path)}')
    if kind in _VIDEOS:
        frames = path.with_suffix('')
        folder = shlex.quote(str(frames))
        extract = f'mkdir {folder} && ffmpeg -i {shlex.quote(str(path))} {folder}/%06d.png'
        return MultishiftError(
            f'{path}: a video, no bag; see what an engine says of it: {_predict(path)}; for a '
            f'bag, put its frames into a folder: {extract}; then {_make_bag(frames)}'
        )
    if kind in PICTURES:
        return MultishiftError(
            f'{path}: an image, no bag; see what an engine says of it: {_predict(path)}; of its '
            f'folder, {_make_bag(path.parent)}'
        )
    return MultishiftError(
        f'{path}: not a rosbag2 bag; expected FILE.mcap, FILE.db3 or a bag directory'
    )


def ros1_messages(path: Path) -> MultishiftError:
    """Return the error for an MCAP file of ROS 1 messages, which no tool converts as it is."""
    source = path.with_suffix('.bag')
    return MultishiftError(
        f'{path}: holds messages of ROS 1; convert the ROS 1 bag that it was made from, for '
        f'example: {_convert(source)}'
    )


def _convert(bag: Path) -> str:
    folder = bag.with_name(f'{bag.stem}_ros2')
    return shlex.join(['rosbags-convert', '--src', str(bag), '--dst', str(folder)])


def _predict(path: Path) -> str:
    return shlex.join(['multishift', 'predict', str(path), '--out', 'predictions'])


def _make_bag(images: Path) -> str:
    out = f'{images}.mcap' if images.name else 'frames.mcap'
    return f'make a bag of the folder: {shlex.join(["multishift", "make-bag", str(images), out])}'


def _begins_as_ros1(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(len(ROS1_MAGIC)) == ROS1_MAGIC


def _from_metadata(folder: Path, present: list[Path]) -> Location:
    """Return what ``metadata.yaml`` tells, of which only the files and the counts are needed."""
    text = (folder / METADATA).read_text(encoding='utf-8')
    metadata: dict[str, Any] = yaml.safe_load(text)['rosbag2_bagfile_information']
    files = [folder / PurePath(name).name for name in metadata['relative_file_paths']]
    if not files:
        raise ValueError('it lists no file')
    if missing := [file.name for file in files if not file.exists()]:
        raise MultishiftError(
            f'{folder}: {METADATA} lists {", ".join(missing)}, which is not there; put it back, '
            f'or take it out of relative_file_paths'
        )
    if (form := metadata.get('compression_format')) not in (None, '', 'zstd'):
        raise MultishiftError(
            f'{folder / METADATA}: compression_format is {form!r}; expected zstd or none'
        )
    located = Location(files)
    for topic in metadata.get('topics_with_message_count') or ():
        located.promised[topic['topic_metadata']['name']] += int(topic['message_count'])
    if extra := [p.name for p in present if p not in files]:
        located.warnings.append(
            f'{folder}: {", ".join(extra)} is not listed in {METADATA} and is not read'
        )
    return located


def _without_metadata(folder: Path, files: list[Path], error: Exception) -> str:
    missing = isinstance(error, FileNotFoundError)
    reason = 'is missing' if missing else f'is of no use ({one_line(error)})'
    names = ', '.join(file.name for file in files)
    return f'{folder}: {METADATA} {reason}; read by their names: {names}'


def _is_storage(path: Path) -> bool:
    name = path.name.removesuffix(COMPRESSED)
    return name.endswith(_STORAGES) and path.is_file()

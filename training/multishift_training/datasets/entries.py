# SPDX-License-Identifier: Apache-2.0
"""Finding the files of a data set, and saying in one go what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
import re

from multishift_perception.errors import MultishiftError
from multishift_perception.images.listing import list_files

MEND_ROOT = 'mend its folder in the configuration, or give the data root with --data'


@dataclass(frozen=True)
class Entry:
    """An image of a data set.

    Attributes:
        image: file of the image, or of its difference from ``base``.
        labels: file of the label image.
        name: unique within the data set.
        scene: what the images of one scene have in common, in partner data sets too.
        condition: weather or light, if the data set says; else empty.
        base: image that ``image`` is added to, if it is a difference.
        weight: how often it is drawn among the partners of a scene, relative to the others.
    """

    image: Path
    labels: Path
    name: str
    scene: str
    condition: str = ''
    base: Path | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Files:
    """Files by key: the part of their path that tells them apart.

    Attributes:
        folder: where they were looked for.
        wanted: how their names look, for messages.
        by_key: the files, in the order of their keys.
    """

    folder: Path
    wanted: str
    by_key: dict[str, Path]


def find(
    folder: Path,
    pattern: str,
    ends: Sequence[str],
    *,
    key: Callable[[str], str] | None = None,
    names: Sequence[str] = ('*',),
) -> Files:
    """Return the files of a folder, each by its key; a missing folder has none.

    Args:
        folder: where to look; see ``list_files`` for links and for what is never listed.
        pattern: glob over paths below ``folder``; ``**`` stands for any folders.
        ends: what a path must end with, in either case. Its path below ``folder`` without this is
            its key, as ``north/seg_000`` of ``north/seg_000_rgb.png`` with the end ``_rgb.png``.
        key: takes that and returns the key, where images and labels are named differently.
        names: globs over file names with their ends, as ``seg_*.png``; one must match.

    Raises:
        MultishiftError: two files have the same key, or none matches ``names``.
    """
    listed: dict[str, Path] = {}
    levels = pattern.split('/')
    for path in sorted(list_files(folder, None if '**' in levels else len(levels))):
        relative = path.relative_to(folder)
        name = relative.as_posix()
        end = next((end for end in ends if name.lower().endswith(end.lower())), None)
        if end is None or not _matches(relative.parts, levels):
            continue
        own_key = name[: -len(end)] if key is None else key(name[: -len(end)])
        if own_key in listed:
            raise MultishiftError(
                f'{listed[own_key]} and {path} are the same image twice: remove one of them'
            )
        listed[own_key] = path
    chosen = {
        own_key: path
        for own_key, path in sorted(listed.items())
        if any(fnmatch(path.name, glob) for glob in names)
    }
    if listed and not chosen:
        globs = ' or '.join(names)
        raise MultishiftError(
            f'none of the {len(listed)} files in {folder} is named {globs}: mend that pattern'
        )
    wanted = (pattern if pattern.endswith(end) else pattern + end for end in ends)
    return Files(folder, ' or '.join(wanted), chosen)


def read_keys(file: Path) -> list[str]:
    """Return the lines of a file that lists a split, without blank ones and outer spaces.

    Raises:
        MultishiftError: the file is missing, or not text, or lists nothing.
    """
    try:
        lines = file.read_text('utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MultishiftError(
            f'cannot read the list of images {file} ({error}): {MEND_ROOT}'
        ) from None
    keys = [line.strip() for line in lines if line.strip()]
    if not keys:
        raise MultishiftError(f'the list of images {file} is empty: copy it again')
    return keys


def pair(
    kind: str,
    images: Files,
    labels: Files,
    *,
    mend: str,
    only: Iterable[str] | None = None,
    every_image: bool = True,
    every_label: bool = True,
) -> list[tuple[str, Path, Path]]:
    """Join images and label images by their keys.

    Args:
        kind: name of the data set, for messages.
        images: the images.
        labels: the label images.
        mend: what to do about missing files.
        only: keys to take, as of a list file; each must have an image and labels. All by default.
        every_image: an image without labels is a fault; else it is left out.
        every_label: a label image without image is a fault; else it is left out.

    Returns:
        Key, image and label image, in the order of the keys.

    Raises:
        MultishiftError: files are missing; the one message names all that are.
    """
    faults = [_absence(files) for files in (images, labels) if not files.by_key]
    if faults:
        only_labels = images.by_key and labels.folder.is_dir()
        raise MultishiftError(f'{kind}: {"; ".join(faults)}: {mend if only_labels else MEND_ROOT}')
    if only is not None:
        return _listed(kind, images, labels, set(only), mend)
    common = images.by_key.keys() & labels.by_key.keys()
    unlabelled, orphans = images.by_key.keys() - common, labels.by_key.keys() - common
    if unlabelled and (every_image or not common):
        faults.append(
            f'of {len(images.by_key)} images {some(unlabelled)} have no label image '
            f'{labels.wanted} in {labels.folder}'
        )
    if orphans and (every_label or not common):
        faults.append(
            f'of {len(labels.by_key)} label images {some(orphans)} have no image '
            f'{images.wanted} in {images.folder}'
        )
    if faults:
        raise MultishiftError(f'{kind}: {"; ".join(faults)}: {mend}')
    return [(key, images.by_key[key], labels.by_key[key]) for key in sorted(common)]


def _listed(
    kind: str, images: Files, labels: Files, keys: set[str], mend: str
) -> list[tuple[str, Path, Path]]:
    faults = [
        f'of {len(keys)} listed images {some(missing)} have no {files.wanted} in {files.folder}'
        for files in (images, labels)
        if (missing := keys - files.by_key.keys())
    ]
    if faults:
        raise MultishiftError(f'{kind}: {"; ".join(faults)}: {mend}')
    return [(key, images.by_key[key], labels.by_key[key]) for key in sorted(keys)]


def file_name(name: str) -> str:
    """Return an image's name as file names of generated partners hold it."""
    return re.sub(r'[^A-Za-z0-9_.-]|^\.', '-', name)


def some(names: Iterable[str]) -> str:
    """Return the number of names and the first few, for messages."""
    ordered = sorted(names)
    more = ', ...' if len(ordered) > 3 else ''
    return f'{len(ordered)} ({", ".join(ordered[:3])}{more})'


def _matches(parts: Sequence[str], levels: Sequence[str]) -> bool:
    if not levels:
        return not parts
    if levels[0] == '**':
        return _matches(parts, levels[1:]) or (bool(parts) and _matches(parts[1:], levels))
    return bool(parts) and fnmatch(parts[0], levels[0]) and _matches(parts[1:], levels[1:])


def _absence(files: Files) -> str:
    if not files.folder.is_dir():
        return f'folder {files.folder} does not exist'
    return f'folder {files.folder} holds no {files.wanted}'

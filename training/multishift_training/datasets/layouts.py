# SPDX-License-Identifier: Apache-2.0
"""Folder layouts that several data sets share: which label image belongs to which image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import re
from typing import NamedTuple

from multishift_perception.errors import MultishiftError
from multishift_perception.images.listing import PICTURES
from multishift_training.datasets.entries import MEND_ROOT, Entry, Files, find, pair, some

UNPACK = 'unpack the data set again'
CITY_IMAGE = ('_leftImg8bit.png',)


class Folders(NamedTuple):
    """An image folder and a label folder below the root, and how file names in them end."""

    images: str
    labels: str
    image_ends: tuple[str, ...] = PICTURES
    label_ends: tuple[str, ...] = ('.png',)


def in_folders(
    kind: str,
    root: Path,
    variants: tuple[Folders, ...],
    *,
    names: Sequence[str] = ('*',),
    every_image: bool = True,
    every_label: bool = True,
) -> list[Entry]:
    """List by the first variant of a layout whose folders are there."""
    for variant in variants:
        if (root / variant.images).is_dir() and (root / variant.labels).is_dir():
            break
    else:
        wanted = ' or '.join(f'{v.images}/ with {v.labels}/' for v in variants)
        raise MultishiftError(f'{kind}: {root} does not hold {wanted}: {MEND_ROOT}')
    pairs = pair(
        kind,
        find(root / variant.images, '**/*', variant.image_ends, key=image_key, names=names),
        find(root / variant.labels, '**/*', variant.label_ends, key=image_key),
        mend=UNPACK,
        every_image=every_image,
        every_label=every_label,
    )
    return [Entry(image, labels, key, key) for key, image, labels in pairs]


def bases(kind: str, wanted: dict[str, str], originals: Files) -> dict[str, Path]:
    """Return the original image of each difference; ``wanted`` has its key among the originals.

    Raises:
        MultishiftError: originals are missing.
    """
    missing = {key for key in wanted.values() if key not in originals.by_key}
    if missing:
        raise MultishiftError(
            f'{kind}: its images are changes to other images, and {some(missing)} of those '
            f'{len(wanted)} are not in {originals.folder}: mend `originals`'
        )
    return {key: originals.by_key[base] for key, base in wanted.items()}


def image_key(path: str) -> str:
    """Return the name of an image in whatever way a copy of a benchmark numbers and ends it.

    ``0003_04_Maurener_Weg_8_000000_000030_labels`` and, in a folder of its city,
    ``04_Maurener_Weg_8_000000_000030_leftImg8bit`` are the same image.
    """
    name = re.sub(r'_(leftImg8bit|labels|rgb)$', '', path.rpartition('/')[2])
    return re.sub(r'^\d{4}_(?=.+_\d{6}_\d{6}$)', '', name)

# SPDX-License-Identifier: Apache-2.0
"""Where novel objects come from: ADE20K-full, COCO, cut-outs, the sample drive."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from multishift_perception.arrays import Bytes, Mask
from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_perception.images.decoding import UNREADABLE
from multishift_perception.sample_drive import NOVEL_OBJECTS, cutout
from multishift_training.augmentation.ade20k import ade20k
from multishift_training.augmentation.config import AdeObjects, CutoutObjects, ObjectData
from multishift_training.augmentation.parts import NovelObject, Rejection
from multishift_training.datasets.config import CocoObjects, SampleObjects
from multishift_training.datasets.entries import MEND_ROOT, Entry, Files, find, some
from multishift_training.datasets.outliers import coco_images
from multishift_training.datasets.reading import read_image

# Of ADE20K's images, most show an object of the lists: so many draws fail by fault alone.
_DRAWS = 200
# Rows at which the sample drive's objects are drawn; placing resizes them.
_SAMPLE_ROWS = 192
# What an object is called whose data set does not say.
_NAMELESS = 'object'


class Objects(Protocol):
    """A source of novel objects."""

    def draw(self, rng: np.random.Generator) -> NovelObject:
        """Draw an object.

        Raises:
            Rejection: what was drawn is empty.
            MultishiftError: a file is unreadable, or does not fit another.
        """


def open_objects(config: ObjectData, root: Path) -> Objects:
    """Open a source of objects.

    Args:
        config: the source.
        root: folder that relative data paths start from.

    Raises:
        MultishiftError: folders or files are missing; the message names them.
    """
    match config:
        case AdeObjects():
            return _Ade(config, root)
        case CocoObjects():
            return _Coco(config, root)
        case CutoutObjects():
            return _Cutouts(config, root)
        case SampleObjects():
            return _Sample(config.split)


class _Ade:
    """Instances of ADE20K-full: an image at random, then one of its instances."""

    def __init__(self, config: AdeObjects, root: Path) -> None:
        found = _found(config.kind, root / config.root, 'images/**/*', ('_seg.png',))
        self._folder = found.folder
        self._files = tuple(found.by_key.values())
        missing = [p.name for p in map(_photograph, self._files) if not p.is_file()]
        if missing:
            raise MultishiftError(
                f'{config.kind}: of {len(self._files)} label images in {self._folder} '
                f'{some(missing)} have no image beside them: unpack the data set again'
            )
        self._list = config.classes
        tables = ade20k()
        # By red and green: index among the 150 classes, from 1; 0 where it is not on the list.
        self._index = np.zeros((256, 256), np.uint8)
        for full, index in tables.of_full.items():
            if index in tables.novel[config.classes]:
                tens, green = divmod(full, 256)
                self._index[tens * 10 : tens * 10 + 10, green] = index + 1

    def draw(self, rng: np.random.Generator) -> NovelObject:
        for _ in range(_DRAWS):
            path = self._files[int(rng.integers(len(self._files)))]
            label = _rgb(path)
            colors = self._instances(label)
            if len(colors):
                return self._cut(path, label, colors[int(rng.integers(len(colors)))])
        raise MultishiftError(
            f'{self._folder}: none of {_DRAWS} label images shows an object of the list '
            f'{self._list!r}: give the folder of ADE20K-full, whose colours tell classes apart'
        )

    def _instances(self, label: Bytes) -> Bytes:
        """Return the colours of the instances on the list, sorted, ``uint8 [n,3]``."""
        # Where a run of equal pixels begins: few of them, and every colour is among them.
        begins = np.ones(label.shape[:2], bool)
        begins[:, 1:] = (label[:, 1:] != label[:, :-1]).any(2)
        colors: Bytes = np.unique(label[begins], axis=0)
        return np.asarray(colors[self._index[colors[:, 0], colors[:, 1]] > 0])

    def _cut(self, path: Path, label: Bytes, color: Bytes) -> NovelObject:
        index = int(self._index[color[0], color[1]]) - 1
        picture = _rgb(_photograph(path))
        if picture.shape != label.shape:
            raise MultishiftError(
                f'{path} has {label.shape[:2]} pixels, but {_photograph(path).name} '
                f'{picture.shape[:2]}: unpack the data set again'
            )
        origin = f'{path.relative_to(self._folder).as_posix()} instance {color[2]}'
        mask = np.asarray((label == color).all(2))
        return _cropped(ade20k().names[index], origin, mask, picture, index)


class _Coco:
    """Objects of COCO, whose masks hold one class each or all that is novel in an image."""

    def __init__(self, config: CocoObjects, root: Path) -> None:
        self._images = coco_images(config, root)

    def draw(self, rng: np.random.Generator) -> NovelObject:
        index = int(rng.integers(len(self._images)))
        picture, labels = self._images.read(index)
        key = self._images.entries[index].name
        name = key.rpartition('_')[0] or _NAMELESS
        return _cropped(name, key, labels == NOVEL, picture)


class _Cutouts:
    """Objects of a folder of pictures with transparent ground, or of masks."""

    def __init__(self, config: CutoutObjects, root: Path) -> None:
        found = _found(config.kind, root / config.root, '**/*', ('.png', '.webp'))
        self._files = tuple(found.by_key.items())

    def draw(self, rng: np.random.Generator) -> NovelObject:
        key, path = self._files[int(rng.integers(len(self._files)))]
        parent, _, stem = key.rpartition('/')
        name = parent.rpartition('/')[2] if parent else re.sub(r'[\W_]*\d+$', '', stem)
        mask, picture = _cutout(path)
        words = re.sub(r'[\W_]+', ' ', name).strip()
        return _cropped(words or _NAMELESS, key, mask, picture)


class _Sample:
    """Objects of the sample drive."""

    def __init__(self, split: str) -> None:
        self._split = split

    def draw(self, rng: np.random.Generator) -> NovelObject:
        seed = int(rng.integers(2**32))
        drawn = cutout(np.random.default_rng(seed), split=self._split, height=_SAMPLE_ROWS)
        # The kind is the first thing that is drawn for a cut-out.
        name = str(np.random.default_rng(seed).choice(NOVEL_OBJECTS[self._split]))
        origin = f'sample drive {self._split} {seed}'
        return _cropped(name, origin, drawn[..., 3] > 127, drawn[..., :3])


def _found(kind: str, folder: Path, pattern: str, ends: tuple[str, ...]) -> Files:
    found = find(folder, pattern, ends)
    if not folder.is_dir():
        raise MultishiftError(f'{kind}: folder {folder} does not exist: {MEND_ROOT}')
    if not found.by_key:
        raise MultishiftError(f'{kind}: folder {folder} holds no {found.wanted}: {MEND_ROOT}')
    return found


def _photograph(path: Path) -> Path:
    """Return the image that a label image of ADE20K belongs to."""
    return path.with_name(path.name.removesuffix('_seg.png') + '.jpg')


def _rgb(path: Path) -> Bytes:
    return read_image(Entry(path, path, path.name, path.name))


def _cutout(path: Path) -> tuple[Mask, Bytes | None]:
    """Read a picture with transparent ground, or a mask, which has no picture."""
    try:
        with Image.open(path) as image:
            if image.has_transparency_data:
                pixels = np.array(image.convert('RGBA'))
                return pixels[..., 3] > 127, pixels[..., :3]
            values: NDArray[np.generic] = np.array(image)
    except UNREADABLE as error:
        raise MultishiftError(f'{path} is no readable image ({error}): copy it again') from None
    return np.asarray(values.reshape(*values.shape[:2], -1).any(2)), None


def _cropped(
    name: str, origin: str, mask: Mask, picture: Bytes | None, ade_index: int | None = None
) -> NovelObject:
    """Return an object cut to its mask; where its class in ADE20K is not given, by its name."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        raise Rejection('object is empty', origin=origin)
    box = np.s_[y : y + height, x : x + width]
    if ade_index is None:
        ade_index = ade20k().named.get(name.lower())
    looks = None if picture is None else np.ascontiguousarray(picture[box])
    return NovelObject(name, origin, np.ascontiguousarray(mask[box]), looks, ade_index)

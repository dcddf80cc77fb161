# SPDX-License-Identifier: Apache-2.0
"""Objects of no known class, and pasting them into images (``anomaly_mix``)."""

from __future__ import annotations

from collections import defaultdict
import csv
import os
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from multishift_perception.arrays import Bytes
from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_perception.images.decoding import UNREADABLE
from multishift_perception.sample_drive import cutout
from multishift_perception.schema.words import did_you_mean, one_of
from multishift_training.datasets.config import (
    CocoObjects,
    OutlierData,
    OutlierKind,
    PhotoObjects,
    SampleObjects,
)
from multishift_training.datasets.entries import MEND_ROOT, Entry, find, some
from multishift_training.datasets.images import LabelledImages


class Outliers(Protocol):
    """A source of objects.

    Attributes:
        before_transforms: objects go into the whole image before it is transformed; if not, into
            what the transforms leave of it.
    """

    before_transforms: bool

    def count(self, rng: np.random.Generator) -> int:
        """Draw how many objects an image gets."""

    def draw(self, image: Bytes, rng: np.random.Generator) -> Bytes | None:
        """Draw an object to paste into ``image``, no larger than it: RGBA ``uint8 [h,w,4]``.

        Returns:
            The object, cut to its bounding box; none if it is too small to be seen, or too wide.
        """

    def bottom(self, size: tuple[int, int], rows: int, rng: np.random.Generator) -> int:
        """Draw the row below an object's last one, so that it lies inside the image.

        Args:
            size: rows and columns of the object.
            rows: of the image.
            rng: decides everything.
        """


class OutlierChoice:
    """The sources of objects of a data set: each image draws one, with equal chance."""

    def __init__(self, config: OutlierData, root: Path) -> None:
        """Open them.

        Raises:
            MultishiftError: files are missing; the message names them.
        """
        kinds = config if isinstance(config, list) else [config]
        self._sources = tuple(open_outliers(kind, root) for kind in kinds)

    def choose(self, rng: np.random.Generator) -> Outliers:
        """Draw a source; of one, nothing is drawn."""
        if len(self._sources) == 1:
            return self._sources[0]
        return self._sources[int(rng.integers(len(self._sources)))]


def open_outliers(config: OutlierKind, root: Path) -> Outliers:
    """Open a source of objects.

    Args:
        config: the source.
        root: folder that relative data paths start from.

    Raises:
        MultishiftError: files are missing; the message names them.
    """
    match config:
        case CocoObjects():
            return CocoOutliers(config, root)
        case PhotoObjects():
            return PhotoOutliers(config, root)
        case SampleObjects():
            return SampleOutliers(config.split)


def paste(source: Outliers, image: Bytes, labels: Bytes, rng: np.random.Generator) -> None:
    """Paste objects into an image, in place; their pixels are labelled 254.

    Each lies fully inside the image, at a uniformly random place that the source allows.

    Args:
        source: of the objects.
        image: RGB ``uint8 [H,W,3]``.
        labels: ``uint8 [H,W]``.
        rng: decides everything.
    """
    rows, columns = labels.shape
    for _ in range(source.count(rng)):
        novel = source.draw(image, rng)
        if novel is None:
            continue
        height, width = novel.shape[:2]
        bottom = source.bottom((height, width), rows, rng)
        left = int(rng.integers(0, columns - width + 1))
        region = np.s_[bottom - height : bottom, left : left + width]
        alpha = novel[..., 3:] / np.float32(255)
        blend = alpha * novel[..., :3] + (1 - alpha) * image[region]
        image[region] = np.rint(blend).astype(np.uint8)
        labels[region][novel[..., 3] >= 128] = NOVEL


def coco_images(config: CocoObjects, root: Path) -> LabelledImages:
    """List COCO images with an object in them, which is labelled 254, and all else 0.

    Raises:
        MultishiftError: there are no masks, or images that belong to them are missing.
    """
    masks = find(root / config.root / config.masks, '*', ('.png',))
    if not masks.by_key:
        raise MultishiftError(
            f'{config.kind}: no mask {masks.wanted} in {masks.folder}: create them with '
            f"Meta-OoD's prepare_coco_segmentation.py, or {MEND_ROOT}"
        )
    folder = root / config.root / config.images
    # Far more images than masks: their names are enough.
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    images = {key: f'{key.rpartition("_")[2]}.jpg' for key in masks.by_key}
    missing = [name for name in images.values() if name not in present]
    if missing:
        raise MultishiftError(
            f'{config.kind}: of {len(images)} masks {some(missing)} have no image in '
            f'{folder}: mend `images`, or unpack COCO again'
        )
    entries = [Entry(folder / images[k], path, k, k) for k, path in masks.by_key.items()]
    # Whatever value marks the object; 255 is what COCO leaves open.
    table = np.full(256, NOVEL, np.uint8)
    table[[0, 255]] = 0
    return LabelledImages(config.kind, entries, table)


class CocoOutliers:
    """Objects cut from COCO images, as MultiShiftSeg pastes them: at 0.1 to 1.0 of their size."""

    before_transforms = False

    def __init__(self, config: CocoObjects, root: Path) -> None:
        """List masks and images.

        Raises:
            MultishiftError: there are no masks, or images that belong to them are missing.
        """
        self._images = coco_images(config, root)

    def count(self, rng: np.random.Generator) -> int:
        """Return one."""
        return 1

    def draw(self, image: Bytes, rng: np.random.Generator) -> Bytes | None:
        """Draw an object at a random scale, or at the largest that fits, if that is less."""
        picture, labels = self._images.read(int(rng.integers(len(self._images))))
        mask = (labels == NOVEL).astype(np.uint8) * 255
        x, y, width, height = cv2.boundingRect(mask)
        if not width:
            return None
        fitting = min(image.shape[0] / height, image.shape[1] / width)
        scale = min(int(rng.integers(1, 11)) / 10, fitting)
        size = int(width * scale), int(height * scale)
        if 0 in size:
            return None
        box = np.s_[y : y + height, x : x + width]
        color = cv2.resize(picture[box], size, interpolation=cv2.INTER_LINEAR)
        alpha = cv2.resize(mask[box], size, interpolation=cv2.INTER_NEAREST)
        return np.dstack([color, alpha]) if alpha.any() else None

    def bottom(self, size: tuple[int, int], rows: int, rng: np.random.Generator) -> int:
        """Draw from all."""
        return _bottom_below(0.0, size, rows, rng)


class SampleOutliers:
    """Novel objects of the sample drive: one to three, standing below the upper third."""

    before_transforms = True

    def __init__(self, split: str) -> None:
        """Take the objects of a split."""
        self._split = split

    def count(self, rng: np.random.Generator) -> int:
        """Draw one to three for four images of five."""
        return _one_to_three(rng)

    def draw(self, image: Bytes, rng: np.random.Generator) -> Bytes | None:
        """Draw an object of 0.06 to 0.35 of the image's height, in the scene's light."""
        height = max(1, int(rng.uniform(0.06, 0.35) * image.shape[0]))
        novel = cutout(rng, split=self._split, height=height)
        if novel.shape[1] > image.shape[1]:
            return None
        return _lit(novel, image, rng)

    def bottom(self, size: tuple[int, int], rows: int, rng: np.random.Generator) -> int:
        """Draw from those below the upper third."""
        return _bottom_below(1 / 3, size, rows, rng)


class PhotoOutliers:
    """Cut-outs of photographs: one to three, the smaller the nearer they stand to the horizon.

    An object of size s metres on a level road, seen by a camera at height c, has its foot c / s of
    its own size in the image below the horizon. The size in the image is drawn first, then s and
    the horizon.
    """

    before_transforms = True
    _LONGEST_SIDE = (0.03, 0.4)  # of the image's rows
    _METRES = (0.25, 2.0)
    _CAMERA = 1.4
    _HORIZON = (0.35, 0.55)

    def __init__(self, config: PhotoObjects, root: Path) -> None:
        """List the cut-outs.

        Raises:
            MultishiftError: the folder, its manifest or files are missing, or the manifest has
                none of a source and split.
        """
        self._files = _listed(config, root / config.root)

    def count(self, rng: np.random.Generator) -> int:
        """Draw one to three for four images of five."""
        return _one_to_three(rng)

    def draw(self, image: Bytes, rng: np.random.Generator) -> Bytes | None:
        """Draw an object with its longest side 0.03 to 0.4 of the image's height, mirrored or not.

        Raises:
            MultishiftError: its file is unreadable, or has no alpha.
        """
        novel = _read_cutout(self._files[int(rng.integers(len(self._files)))])
        scale = _log_uniform(self._LONGEST_SIDE, rng) * image.shape[0] / max(novel.shape[:2])
        height, width = (max(1, round(scale * side)) for side in novel.shape[:2])
        if rng.random() < 0.5:
            novel = novel[:, ::-1]
        if width > image.shape[1]:
            return None
        return _lit(_resized(novel, (height, width)), image, rng)

    def bottom(self, size: tuple[int, int], rows: int, rng: np.random.Generator) -> int:
        """Draw from where an object that looks so large may stand."""
        metres, horizon = _log_uniform(self._METRES, rng), rng.uniform(*self._HORIZON)
        foot = round(horizon * rows + max(size) * self._CAMERA / metres)
        return min(max(foot, size[0]), rows)


def _listed(config: PhotoObjects, folder: Path) -> tuple[Path, ...]:
    """Return the files of a split and its sources, as the manifest lists them."""
    manifest = folder / 'manifest.csv'
    if not folder.is_dir():
        raise MultishiftError(f'{config.kind}: folder {folder} does not exist: {MEND_ROOT}')
    if not manifest.is_file():
        raise MultishiftError(f'{config.kind}: {manifest} does not exist: {MEND_ROOT}')
    try:
        with manifest.open(encoding='utf-8', newline='') as file:
            lines = [(row['file'], row['source'], row['split']) for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise MultishiftError(
            f'{config.kind}: {manifest} is no list of cut-outs with the columns file, source and '
            f'split ({type(error).__name__} {error}): copy it again'
        ) from None
    by_source: dict[str, list[str]] = defaultdict(list)
    for name, source, split in lines:
        if split == config.split:
            by_source[source].append(name)
    if not by_source:
        raise MultishiftError(
            f'{config.kind}: {manifest} lists nothing of split {config.split}: mend `split`'
        )
    for source in config.sources:
        if source not in by_source:
            hint = did_you_mean(source, by_source)
            raise MultishiftError(
                f'{config.kind}: {manifest} lists no source {source}{hint} of split '
                f'{config.split}, but {one_of(list(by_source))}: mend `sources`'
            )
    names = [name for source in config.sources or by_source for name in by_source[source]]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise MultishiftError(
            f'{config.kind}: of {len(names)} listed cut-outs {some(missing)} are not in {folder}: '
            'copy them again'
        )
    return tuple(folder / name for name in names)


def _read_cutout(path: Path) -> Bytes:
    """Return a picture with its alpha, RGBA ``uint8 [h,w,4]``."""
    try:
        with Image.open(path) as picture:
            if not picture.has_transparency_data:
                raise MultishiftError(f'{path} has no alpha: take it out of the manifest')
            pixels = np.array(picture.convert('RGBA'), np.uint8)
    except UNREADABLE as error:
        raise MultishiftError(f'{path} is no readable image ({error}): copy it again') from None
    return pixels


def _resized(novel: Bytes, size: tuple[int, int]) -> Bytes:
    """Return an object RGBA ``uint8 [h,w,4]`` in another size, its soft edge kept.

    Colours are averaged by alpha: what stands under none of it means nothing.
    """
    height, width = size
    alpha = novel[..., 3:] / np.float32(255)
    smaller = height < novel.shape[0]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    weighted = np.dstack([novel[..., :3] * alpha, alpha])
    scaled = cv2.resize(weighted, (width, height), interpolation=interpolation)
    color = scaled[..., :3] / scaled[..., 3:].clip(1e-6)
    whole = np.dstack([color, scaled[..., 3] * 255]).clip(0, 255)
    return np.asarray(np.rint(whole), np.uint8)


def _lit(novel: Bytes, image: Bytes, rng: np.random.Generator) -> Bytes:
    """Light an object as a scene is: it is as by day, and its brightness must not give it away."""
    gain = rng.uniform(0.6, 1.1) * np.clip(image.mean() / 110, 0.3, 1.2)
    novel[..., :3] = np.clip(novel[..., :3] * gain, 0, 255)
    return novel


def _one_to_three(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 4)) if rng.random() < 0.8 else 0


def _log_uniform(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _bottom_below(sky: float, size: tuple[int, int], rows: int, rng: np.random.Generator) -> int:
    """Draw from the rows of an object that ends below a share of the image, from its top."""
    return int(rng.integers(max(size[0], int(sky * rows)), rows + 1))

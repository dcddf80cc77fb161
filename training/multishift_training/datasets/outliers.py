# SPDX-License-Identifier: Apache-2.0
"""Objects of no known class, and pasting them into images (``anomaly_mix``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_perception.sample_drive import cutout
from multishift_training.datasets.config import CocoObjects, OutlierData
from multishift_training.datasets.entries import MEND_ROOT, Entry, find, some
from multishift_training.datasets.images import LabelledImages

Bytes = NDArray[np.uint8]


class Outliers(Protocol):
    """A source of objects.

    Attributes:
        before_transforms: objects go into the whole image before it is transformed; if not, into
            what the transforms leave of it.
        sky: share of the rows, from the top, above which no object ends.
    """

    before_transforms: bool
    sky: float

    def count(self, rng: np.random.Generator) -> int:
        """Draw how many objects an image gets."""

    def draw(self, image: Bytes, rng: np.random.Generator) -> Bytes | None:
        """Draw an object to paste into ``image``, no larger than it: RGBA ``uint8 [h,w,4]``.

        Returns:
            The object, cut to its bounding box; none if it is too small to be seen, or too wide.
        """


def open_outliers(config: OutlierData, root: Path) -> Outliers:
    """Open a source of objects.

    Args:
        config: the source.
        root: folder that relative data paths start from.

    Raises:
        MultishiftError: files are missing; the message names them.
    """
    if isinstance(config, CocoObjects):
        return CocoOutliers(config, root)
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
        bottom = int(rng.integers(max(height, int(source.sky * rows)), rows + 1))
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
    sky = 0.0

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


class SampleOutliers:
    """Novel objects of the sample drive: one to three, standing below the upper third."""

    before_transforms = True
    sky = 1 / 3

    def __init__(self, split: str) -> None:
        """Take the objects of a split."""
        self._split = split

    def count(self, rng: np.random.Generator) -> int:
        """Draw one to three for four images of five."""
        return int(rng.integers(1, 4)) if rng.random() < 0.8 else 0

    def draw(self, image: Bytes, rng: np.random.Generator) -> Bytes | None:
        """Draw an object of 0.06 to 0.35 of the image's height, in the scene's light."""
        height = max(1, int(rng.uniform(0.06, 0.35) * image.shape[0]))
        novel = cutout(rng, split=self._split, height=height)
        if novel.shape[1] > image.shape[1]:
            return None
        # A cut-out is lit as by day; the scene's own brightness keeps that from giving it away.
        gain = rng.uniform(0.6, 1.1) * np.clip(image.mean() / 110, 0.3, 1.2)
        novel[..., :3] = np.clip(novel[..., :3] * gain, 0, 255)
        return novel

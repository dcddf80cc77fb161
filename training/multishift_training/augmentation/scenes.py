# SPDX-License-Identifier: Apache-2.0
"""The labelled images that a run starts from."""

from __future__ import annotations

import logging
from pathlib import Path

from multishift_perception.arrays import Bytes
from multishift_perception.classes import CITYSCAPES
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import AugmentConfig, ControlNetGenerator
from multishift_training.augmentation.parts import Scene, nearest
from multishift_training.datasets import open_images
from multishift_training.datasets.entries import file_name, some
from multishift_training.datasets.kinds.cityscapes import LABEL_IDS, label_ids
from multishift_training.datasets.reading import read_labels
from multishift_training.datasets.transforms import resized

logger = logging.getLogger(__name__)


class Scenes:
    """A data set's images, at the size that the run wants.

    Attributes:
        names: of the images, fit for file names.
    """

    def __init__(self, config: AugmentConfig, root: Path, cache: Path) -> None:
        """Find the images.

        Args:
            config: of the run.
            root: folder that relative data paths start from.
            cache: of rendered frames.

        Raises:
            MultishiftError: files are missing, or two names are the same as file names.
        """
        # Held-out classes are void, as in training: nothing generated may show them as novel.
        opened = open_images(config.images, root, cache, training=True)
        self._images = opened.in_classes(CITYSCAPES)
        self._size = config.size
        by_name: dict[str, str] = {}
        for entry in self._images.entries:
            other = by_name.setdefault(file_name(entry.name), entry.name)
            if other != entry.name:
                raise MultishiftError(
                    f'images {other} and {entry.name} would be the same file: rename one'
                )
        self.names = tuple(by_name)
        self._label_ids = self._find_label_ids(config)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def read(self, index: int) -> Scene:
        """Read an image with its labels.

        Raises:
            MultishiftError: a file is unreadable, or the two differ in size.
        """
        image, labels = self._images.read(index)
        ids = self._read_ids(index, labels)
        if self._size is not None:
            image, labels = resized(image, labels, self._size)
            ids = None if ids is None else nearest(ids, self._size)
        return Scene(self.names[index], image, labels, ids)

    def _find_label_ids(self, config: AugmentConfig) -> dict[int, Path]:
        """Return label images with Cityscapes' own ids, where the generator can tell more by them.

        It says how many images have none: what these show as void, their control map has as road.
        """
        if config.images.kind != 'cityscapes':
            return {}
        if not isinstance(config.generator, ControlNetGenerator):
            return {}
        entries = self._images.entries
        found = {i: path for i, entry in enumerate(entries) if (path := label_ids(entry))}
        if lacking := [entry.name for i, entry in enumerate(entries) if i not in found]:
            logger.warning(
                'of %d images %s have no labelIds image beside their labelTrainIds: the control '
                'maps of those are made of train ids',
                len(entries),
                some(lacking),
            )
        return found

    def _read_ids(self, index: int, labels: Bytes) -> Bytes | None:
        path = self._label_ids.get(index)
        if path is None:
            return None
        ids = read_labels(path, LABEL_IDS, kind="Cityscapes' label ids")
        if ids.shape != labels.shape:
            raise MultishiftError(
                f'{path} has {ids.shape} pixels, but the labelTrainIds image beside it '
                f'{labels.shape}: copy both again from the same source'
            )
        return ids

"""Labelled images, one class for all data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import layouts
from multishift_training.datasets.config import ImageData
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.reading import read_image, read_labels
from multishift_training.datasets.rendered import rendered
from multishift_training.datasets.tables import Table, has_classes, label_table

LabelledImage = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class LabelledImages:
    """A fixed list of images with labels: 0..C-1, 254 novel, 255 void.

    Attributes:
        kind: name of the data set.
        entries: the images, in a fixed order.
        has_classes: whether known pixels are labelled with their class; if not, they are all 0.
    """

    def __init__(
        self, kind: str, entries: Sequence[Entry], table: Table, *, has_classes: bool = True
    ) -> None:
        """Wrap entries and the table ``uint8 [256]`` from their label values to ours."""
        self.kind = kind
        self.entries = tuple(entries)
        self.has_classes = has_classes
        self._table = table

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.entries)

    @property
    def may_have_novel(self) -> bool:
        """Whether a label value of the data set stands for novel pixels."""
        return bool((self._table == NOVEL).any())

    @property
    def conditions(self) -> tuple[str, ...]:
        """The weather or light of each image; empty where the data set does not say."""
        return tuple(entry.condition for entry in self.entries)

    def read(self, index: int) -> LabelledImage:
        """Return the RGB image ``uint8 [H,W,3]`` and the labels ``uint8 [H,W]`` of an image.

        Raises:
            MultishiftError: a file is unreadable, the two differ in size, or a label value is
                none of the data set's.
        """
        image, labels = read_image(self.entries[index]), self.read_labels(index)
        if labels.shape != image.shape[:2]:
            entry = self.entries[index]
            raise MultishiftError(
                f'{entry.labels} has {labels.shape} pixels, but {entry.image} '
                f'{image.shape[:2]}: copy both again from the same source'
            )
        return image, labels

    def read_labels(self, index: int) -> NDArray[np.uint8]:
        """Return the labels ``uint8 [H,W]`` of an image, without reading the image.

        Raises:
            MultishiftError: the file is unreadable, or a label value is none of the data set's.
        """
        return read_labels(self.entries[index].labels, self._table, kind=self.kind)


def open_images(
    config: ImageData, root: Path, cache: Path, *, training: bool = False
) -> LabelledImages:
    """Open a data set, and see that none of its files is missing.

    Args:
        config: the data set.
        root: folder that relative data paths start from.
        cache: where rendered frames are kept for the next run.
        training: make void what no network may learn from: classes held out, and novel objects,
            except in data sets made to learn them from.

    Raises:
        MultishiftError: folders or files are missing; one message names all that are.
    """
    return LabelledImages(
        config.kind,
        _entries(config, root, cache),
        label_table(config, root, training=training),
        has_classes=has_classes(config),
    )


def check_images(config: ImageData, root: Path) -> None:
    """See that a data set's files are there, without reading or rendering an image.

    Args:
        config: the data set.
        root: folder that relative data paths start from.

    Raises:
        MultishiftError: folders or files are missing; one message names all that are.
    """
    if config.kind != 'sample_drive':  # which is rendered
        _entries(config, root, Path())
    label_table(config, root, training=False)


def _entries(config: ImageData, root: Path, cache: Path) -> list[Entry]:
    match config.kind:
        case 'cityscapes' | 'multishift_cityscapes':
            return layouts.cityscapes(config, root)
        case 'road_anomaly':
            return layouts.road_anomaly(config, root)
        case 'road_anomaly21' | 'road_obstacle21':
            return layouts.smiyc(config, root)
        case 'fishyscapes_lost_found':
            return layouts.lost_found(config, root)
        case 'fishyscapes_static':
            return layouts.static(config, root)
        case 'acdc_poc':
            return layouts.acdc_poc(config, root)
        case 'muad':
            return layouts.muad(config, root)
        case 'camvid':
            return layouts.camvid(config, root)
        case 'sample_drive':
            return rendered(config, cache)
        case 'folder':
            return layouts.folder(config, root)

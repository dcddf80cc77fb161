# SPDX-License-Identifier: Apache-2.0
"""The validation sets of Fishyscapes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from multishift_training.datasets.entries import Entry, find, pair
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import (
    CITY_IMAGE,
    UNPACK,
    Folders,
    bases,
    image_key,
    in_folders,
)
from multishift_training.datasets.tables import ANOMALY, Table, table_of

_READY = (
    Folders('original', 'labels'),
    Folders('images', 'labels_masks'),
    Folders('images/val', 'annotations/val'),
    Folders('images', 'annotations'),
)
_LOST_AND_FOUND = (
    Folders('laf_images', 'fishyscapes_lostandfound', CITY_IMAGE, ('_labels.png',)),
    Folders('leftImg8bit', 'fishyscapes_lostandfound', CITY_IMAGE, ('_labels.png',)),
    *_READY,
)


class FishyscapesLostFoundData(ImageSet):
    """Fishyscapes Lost & Found, validation: Fishyscapes' labels on Lost & Found's images.

    Attributes:
        root: folder of the data set, images and labels.
    """

    kind: Literal['fishyscapes_lost_found']
    root: Path = Path('fs_LostAndFound')

    domain: ClassVar[str] = 'lost_and_found'
    has_classes: ClassVar[bool] = False
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by name; Lost & Found's other images are left out."""
        return in_folders(self.kind, root / self.root, _LOST_AND_FOUND, every_image=False)

    def table(self, root: Path) -> Table:
        """Return what is anomalous, and what is not."""
        return table_of(ANOMALY)


class FishyscapesStaticData(ImageSet):
    """Fishyscapes Static, validation: ready images, or the released overlays.

    Attributes:
        root: folder of the data set.
        originals: Cityscapes, which the released overlays (``*_rgb.npz``) are added to.
    """

    kind: Literal['fishyscapes_static']
    root: Path = Path('fs_static')
    originals: Path = Path('cityscapes')

    domain: ClassVar[str] = 'cityscapes'
    has_classes: ClassVar[bool] = False
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List ready images, or overlays with the Cityscapes images they need."""
        folder = root / self.root
        overlays = find(folder, '*', ('_rgb.npz',))
        if not overlays.by_key:
            return in_folders(self.kind, folder, _READY)
        pairs = pair(self.kind, overlays, find(folder, '*', ('_labels.png',)), mend=UNPACK)
        cityscapes = root / self.originals / 'leftImg8bit' / 'val'
        originals = find(cityscapes, '*/*', CITY_IMAGE, key=image_key)
        base = bases(self.kind, {key: image_key(key) for key, _, _ in pairs}, originals)
        return [Entry(image, labels, key, key, base=base[key]) for key, image, labels in pairs]

    def table(self, root: Path) -> Table:
        """Return what is anomalous, and what is not."""
        return table_of(ANOMALY)

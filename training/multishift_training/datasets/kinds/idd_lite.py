# SPDX-License-Identifier: Apache-2.0
"""IDD-Lite: Indian streets."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multishift_perception.classes import VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets.entries import Entry, find, pair
from multishift_training.datasets.groups import Group, Groups, group_label
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import UNPACK
from multishift_training.datasets.tables import Table, table_of


class IddLiteData(ImageSet):
    """IDD-Lite, with its seven coarse classes as groups of ours.

    It is the small form of the Indian Driving Dataset (Varma et al., WACV 2019). Walls, kerbs,
    hoardings and all that stands by the road are roadside objects, flyovers are far ones; bare
    verges count as drivable. Its test images have no labels.

    Attributes:
        root: folder that holds ``leftImg8bit/`` and ``gtFine/``.
        split: which split to take.
        patterns: which images to take, as globs over ``DRIVE/NUMBER``: ``1??/*`` are drives 100 to
            199.
    """

    kind: Literal['idd_lite']
    root: Path = Path('idd_lite')
    split: Literal['train', 'val'] = 'train'
    patterns: list[str] = Field(default=['*'], min_length=1)

    domain: ClassVar[str] = 'idd'
    licence: ClassVar[str] = 'research use'
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False
    groups: ClassVar[Groups] = (
        Group('drivable', ('road',)),
        Group('non-drivable', ('sidewalk', 'terrain')),
        Group('living thing', ('person', 'rider')),
        Group('vehicle', ('car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')),
        Group('roadside object', ('wall', 'fence', 'pole', 'traffic light', 'traffic sign')),
        Group('far object', ('building', 'vegetation')),
        Group('sky', ('sky',)),
    )

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by drive and number."""
        base = root / self.root
        pairs = pair(
            self.kind,
            find(base / 'leftImg8bit' / self.split, '*/*', ('_image.jpg', '_image.png')),
            find(base / 'gtFine' / self.split, '*/*', ('_label.png',)),
            mend=UNPACK,
            every_label=False,  # ..._inst_label.png number instances
        )
        chosen = [
            Entry(image, labels, key, key)
            for key, image, labels in pairs
            if any(fnmatch(key, pattern) for pattern in self.patterns)
        ]
        if not chosen:
            raise MultishiftError(
                f'{self.kind}: patterns {", ".join(self.patterns)} match none of {len(pairs)} '
                f'images, which are called such as {pairs[0][0]}: mend `patterns`'
            )
        return chosen

    def table(self, root: Path) -> Table:
        """Return the group of each value, in the order of the groups."""
        return table_of({**{raw: group_label(raw) for raw in range(7)}, 255: VOID})

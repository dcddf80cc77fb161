# SPDX-License-Identifier: Apache-2.0
"""IDD: Indian streets in full detail."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from multishift_perception.classes import VOID
from multishift_training.datasets.entries import Entry, find, pair
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.tables import IDENTITY, Table, table_of


class IddData(ImageSet):
    """The Indian Driving Dataset (Varma et al., WACV 2019) in Cityscapes' train ids.

    Its label images are made of its polygons by its authors' scripts (AutoNUE, ``createLabels.py
    --id-type csTrainId``). No pixel of it is a train.

    Attributes:
        root: folder that holds ``leftImg8bit/`` and ``gtFine/``.
        split: which split to take.
    """

    kind: Literal['idd']
    root: Path = Path('idd')
    split: Literal['train', 'val'] = 'train'

    domain: ClassVar[str] = 'idd'
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by drive and name."""
        base, ends = root / self.root, ('_leftImg8bit.png', '_leftImg8bit.jpg')
        pairs = pair(
            self.kind,
            find(base / 'leftImg8bit' / self.split, '*/*', ends),
            find(base / 'gtFine' / self.split, '*/*', ('_gtFine_labelcsTrainIds.png',)),
            mend='create them with createLabels.py --id-type csTrainId of AutoNUE',
        )
        return [Entry(image, labels, key, key) for key, image, labels in pairs]

    def table(self, root: Path) -> Table:
        """Return train ids as they are."""
        return table_of({**IDENTITY, VOID: VOID})

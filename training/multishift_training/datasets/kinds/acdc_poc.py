# SPDX-License-Identifier: Apache-2.0
"""ACDC with inpainted objects (POC)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.datasets.config import Truth
from multishift_training.datasets.entries import Entry, find, pair
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.kinds.cityscapes import OF_LABEL_IDS
from multishift_training.datasets.layouts import UNPACK, bases
from multishift_training.datasets.tables import Table, table_of

_Condition = Literal['fog', 'rain', 'snow', 'night']

# Inpainted objects are numbered from 100; the published rule takes all above 33 for them.
_OBJECTS = dict.fromkeys(range(34, 255), NOVEL)
_CLASSES = {
    **OF_LABEL_IDS,
    **_OBJECTS,
    VOID: VOID,
}
_ANOMALY = {0: VOID, **dict.fromkeys(range(1, 34), 0), **_OBJECTS, VOID: VOID}


class AcdcPocData(ImageSet):
    """ACDC with inpainted objects (POC): ready images, or the released differences.

    Attributes:
        root: folder that holds ``rgb_anon_trainvaltest/`` and ``gt_trainval/``.
        originals: ACDC, which the released differences (``.npz`` images) are added to.
        conditions: which weathers to take.
        truth: what known pixels are; see ``muad``.
    """

    kind: Literal['acdc_poc']
    root: Path = Path('acdc_poc')
    originals: Path = Path('acdc')
    conditions: list[_Condition] = Field(default=['fog', 'rain', 'snow', 'night'], min_length=1)
    truth: Truth = 'classes'

    domain: ClassVar[str] = 'acdc'
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    @property
    def has_classes(self) -> bool:
        """As the description chooses."""
        return self.truth == 'classes'

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by condition: ready images, or differences with the images they need."""
        folder, ends = root / self.root, ('.png', '.npz')
        pairs = [
            found
            for found in pair(
                self.kind,
                find(folder / 'rgb_anon_trainvaltest' / 'rgb_anon', '*/val/*/*', ends),
                find(folder / 'gt_trainval' / 'gt', '*/val/*/*', ends),
                mend=UNPACK,
            )
            if found[0].partition('/')[0] in self.conditions
        ]
        if not pairs:
            raise MultishiftError(
                f'{self.kind}: {folder} has no image of {self.conditions}: mend `conditions`'
            )
        differences = {
            key: key.partition('_rgb_anon_')[0]
            for key, image, _ in pairs
            if image.suffix == '.npz'
        }
        originals = root / self.originals / 'rgb_anon_trainvaltest' / 'rgb_anon'
        base = bases(self.kind, differences, find(originals, '*/val/*/*', ('_rgb_anon.png',)))
        entries = []
        for key, image, labels in pairs:
            name = key.rpartition('/')[2]
            condition = key.partition('/')[0]
            entries.append(Entry(image, labels, name, name, condition, base.get(key)))
        return entries

    def table(self, root: Path) -> Table:
        """Return Cityscapes' label ids as classes, or as what is known."""
        return table_of(_CLASSES if self.truth == 'classes' else _ANOMALY)

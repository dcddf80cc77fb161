# SPDX-License-Identifier: Apache-2.0
"""Cityscapes, and generated partners of its images in the same layout."""

from __future__ import annotations

from pathlib import Path
import re
from typing import ClassVar, Literal

import numpy as np

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.images.label_map import UNMAPPED
from multishift_training.datasets.entries import Entry, find, pair
from multishift_training.datasets.generated import weighted
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import CITY_IMAGE, UNPACK
from multishift_training.datasets.tables import IDENTITY, Table, table_of

_TRAIN_IDS = 'create them with cityscapesScripts (csCreateTrainIdLabelImgs)'
_LABELS = '_gtFine_labelTrainIds.png'
_LABEL_IDS = '_gtFine_labelIds.png'

# The class of each of Cityscapes' label ids, in the order of train ids; void where it has none.
OF_LABEL_IDS = {
    **dict.fromkeys(range(34), VOID),
    **{own: c for c, own in enumerate((7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33))},
}
# All of Cityscapes' label ids as they are; licence plates have none, and are part of their cars.
LABEL_IDS = np.where(np.arange(256) < 34, np.arange(256), UNMAPPED).astype(np.uint8)


class CityscapesData(ImageSet):
    """Cityscapes: ``leftImg8bit/`` and ``gtFine/`` with the ``labelTrainIds`` images.

    Attributes:
        root: folder that holds both.
        split: which split to take.
    """

    kind: Literal['cityscapes']
    root: Path = Path('cityscapes')
    split: Literal['train', 'val'] = 'train'

    domain: ClassVar[str] = 'cityscapes'
    licence: ClassVar[str] = "Cityscapes' own terms, non-commercial"
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = True

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by city and name."""
        return _entries(self, root / self.root, mend=_TRAIN_IDS)

    def table(self, root: Path) -> Table:
        """Return train ids as they are."""
        return table_of({**IDENTITY, VOID: VOID})


class MultishiftCityscapesData(ImageSet):
    """Generated partners of Cityscapes images, in the same folders (MultiShiftSeg's CG-Aug).

    Attributes:
        root: folder that holds ``leftImg8bit/`` and ``gtFine/``: the release, or what `multishift
            augment` wrote.
        split: which split to take.
    """

    kind: Literal['multishift_cityscapes']
    root: Path = Path('multishift_cityscapes')
    split: Literal['train', 'val'] = 'train'

    domain: ClassVar[str] = 'multishift_cityscapes'
    licence: ClassVar[str] = "Cityscapes' own terms, non-commercial"
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = True
    may_be_partner: ClassVar[bool] = True

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by city and name."""
        return _entries(self, root / self.root, mend=UNPACK)

    def table(self, root: Path) -> Table:
        """Return train ids as they are, and what is novel."""
        # 16 of the released label images hold 24 or 26 where the novel object is.
        return table_of({**IDENTITY, 24: NOVEL, 26: NOVEL, NOVEL: NOVEL, VOID: VOID})


def label_ids(entry: Entry) -> Path | None:
    """Return the image of Cityscapes' own label ids beside that of train ids, if it is there."""
    path = entry.labels.with_name(entry.labels.name.replace(_LABELS, _LABEL_IDS))
    return path if path.is_file() else None


def _entries(
    config: CityscapesData | MultishiftCityscapesData, base: Path, *, mend: str
) -> list[Entry]:
    pairs = pair(
        config.kind,
        find(base / 'leftImg8bit' / config.split, '*/*', CITY_IMAGE),
        find(base / 'gtFine' / config.split, '*/*', (_LABELS,)),
        mend=mend,
    )
    entries = []
    for key, image, labels in pairs:
        name = key.rpartition('/')[2]
        scene = re.match(r'.+?_\d{6}_\d{6}(?=_|$)', name)
        entries.append(Entry(image, labels, name, scene[0] if scene else name))
    return weighted(entries, base / 'records.jsonl')

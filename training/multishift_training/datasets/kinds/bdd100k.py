# SPDX-License-Identifier: Apache-2.0
"""BDD100K: streets of the United States, by day and night."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multishift_perception.classes import VOID
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import Folders, in_folders
from multishift_training.datasets.tables import IDENTITY, Table, table_of


class Bdd100kData(ImageSet):
    """The 10,000 images of BDD100K (Yu et al., CVPR 2020) with semantic labels.

    Attributes:
        root: folder that holds ``images/10k/`` and ``labels/sem_seg/masks/``, or the older
            ``seg/images/`` and ``seg/labels/``, or these without ``seg/``.
        split: which split to take.
        patterns: which images to take, as globs over file names.
    """

    kind: Literal['bdd100k']
    root: Path = Path('bdd100k')
    split: Literal['train', 'val'] = 'train'
    patterns: list[str] = Field(default=['*'], min_length=1)

    domain: ClassVar[str] = 'bdd100k'
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by name."""
        split, older = self.split, ('_train_id.png',)
        variants = (
            Folders(f'images/10k/{split}', f'labels/sem_seg/masks/{split}', ('.jpg',)),
            Folders(f'seg/images/{split}', f'seg/labels/{split}', ('.jpg',), older),
            Folders(f'images/{split}', f'labels/{split}', ('.jpg',), older),
        )
        return in_folders(
            self.kind, root / self.root, variants, names=self.patterns, every_label=False
        )

    def table(self, root: Path) -> Table:
        """Return train ids as they are."""
        return table_of({**IDENTITY, VOID: VOID})

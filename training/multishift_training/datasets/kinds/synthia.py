# SPDX-License-Identifier: Apache-2.0
"""SYNTHIA-RAND-CITYSCAPES: streets, rendered."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multishift_perception.classes import VOID
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import Folders, in_folders
from multishift_training.datasets.tables import Table, table_of

# Sky, building, road, sidewalk, fence, vegetation, pole, car, sign, pedestrian, bicycle and
# motorcycle; parking and road works; traffic light, terrain, rider, truck, bus, train and wall;
# lane markings.
_VALUES = (10, 2, 0, 1, 4, 8, 5, 13, 7, 11, 18, 17, VOID, VOID, 6, 9, 12, 14, 15, 16, 3, VOID)


class SynthiaData(ImageSet):
    """SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016).

    No pixel of it is terrain, truck or train. Its label images have 16 bits and colours: the
    first holds classes, the second instances.

    Attributes:
        root: folder that holds ``RGB/`` and ``GT/LABELS/``.
        split: ``all``, or the folder of that name in both; the release has no split.
        patterns: which images to take, as globs over file names.
    """

    kind: Literal['synthia']
    root: Path = Path('synthia')
    split: Literal['all', 'train', 'val'] = 'all'
    patterns: list[str] = Field(default=['*'], min_length=1)

    domain: ClassVar[str] = 'synthia'
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False
    labels_are_first_channel: ClassVar[bool] = True

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by number."""
        part = '' if self.split == 'all' else f'/{self.split}'
        folders = Folders(f'RGB{part}', f'GT/LABELS{part}', ('.png',))
        return in_folders(
            self.kind, root / self.root, (folders,), names=self.patterns, every_label=False
        )

    def table(self, root: Path) -> Table:
        """Return the class of each value."""
        return table_of({0: VOID, **dict(enumerate(_VALUES, 1))})

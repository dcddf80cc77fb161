# SPDX-License-Identifier: Apache-2.0
"""Mapillary Vistas: streets of the world."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multishift_perception.classes import VOID, TrainId
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import Folders, in_folders
from multishift_training.datasets.tables import Table, table_of

_SPLITS = {'train': 'training', 'val': 'validation'}
_CLASSES = 66
# Of the classes of version 1.2 those that are some of ours; as RobustNet takes them.
_VALUES = {
    2: TrainId.SIDEWALK,  # curb
    3: TrainId.FENCE,
    6: TrainId.WALL,
    13: TrainId.ROAD,
    15: TrainId.SIDEWALK,
    17: TrainId.BUILDING,
    19: TrainId.PERSON,
    20: TrainId.RIDER,  # bicyclist
    21: TrainId.RIDER,  # motorcyclist
    22: TrainId.RIDER,  # other rider
    24: TrainId.ROAD,  # lane marking
    27: TrainId.SKY,
    29: TrainId.TERRAIN,
    30: TrainId.VEGETATION,
    41: TrainId.ROAD,  # manhole
    45: TrainId.POLE,
    47: TrainId.POLE,  # utility pole
    48: TrainId.TRAFFIC_LIGHT,
    50: TrainId.TRAFFIC_SIGN,  # front
    52: TrainId.BICYCLE,
    54: TrainId.BUS,
    55: TrainId.CAR,
    57: TrainId.MOTORCYCLE,
    58: TrainId.TRAIN,  # on rails
    61: TrainId.TRUCK,
}


class MapillaryData(ImageSet):
    """Mapillary Vistas (Neuhold et al., ICCV 2017) with the 66 classes of its version 1.2.

    Attributes:
        root: folder that holds ``training/`` and ``validation/``, with ``images/`` and
            ``labels/`` or, as in version 2, ``v1.2/labels/``.
        split: which split to take.
        patterns: which images to take, as globs over file names.
    """

    kind: Literal['mapillary']
    root: Path = Path('mapillary')
    split: Literal['train', 'val'] = 'train'
    patterns: list[str] = Field(default=['*'], min_length=1)

    domain: ClassVar[str] = 'mapillary'
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by name."""
        base = _SPLITS[self.split]
        variants = tuple(
            Folders(f'{base}/images', f'{base}/{labels}', ('.jpg',))
            for labels in ('v1.2/labels', 'labels')
        )
        return in_folders(
            self.kind, root / self.root, variants, names=self.patterns, every_label=False
        )

    def table(self, root: Path) -> Table:
        """Return the class of each value; what has none of ours is void."""
        return table_of({**dict.fromkeys(range(_CLASSES), VOID), **_VALUES})

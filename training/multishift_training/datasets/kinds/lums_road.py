# SPDX-License-Identifier: Apache-2.0
"""The LUMS Road data set."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import CITYSCAPES, VOID, TrainId
from multishift_perception.images.listing import PICTURES
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.groups import Group, Groups, group_label
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import Folders, in_folders
from multishift_training.datasets.tables import Table, table_of

_PREFIX = {'train': 'train', 'val': 'valid', 'test': 'test'}
_GROUND = (TrainId.ROAD, TrainId.SIDEWALK)
_LEAST_ROAD = 0.1
# Black as JPEG leaves it.
_BLACK = 16


def _black_corners(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return what is black and joins a corner of the image, ``bool [H,W]``."""
    black = (image.max(2) < _BLACK).astype(np.uint8)
    parts = cv2.connectedComponents(black, connectivity=4)[1]
    corners = parts[[0, 0, -1, -1], [0, -1, 0, -1]]
    return np.isin(parts, corners[corners > 0])


class LumsRoadData(ImageSet):
    """LUMS Road: road and sidewalk of a campus in Lahore, against everything else.

    Obstacles (people, vehicles and cones, not told apart, and not all marked) are void. What is
    neither road nor sidewalk is one group of all other classes; so are the seams between the two.
    Corners that a rotation left black are void: there, whatever joins a corner of the image in
    black. So is all sidewalk of a frame of which less than a tenth is road: it is the road, under
    the wrong label. (That is so in 4 frames of 580, with at most 0.03 of road; all others have
    0.32 or more.) The splits are frames of the same streets.

    Attributes:
        root: folder that holds ``images/`` and ``labels/``.
        split: which split to take, by the beginning of the file names.
    """

    kind: Literal['lums_road']
    root: Path = Path('lums_road')
    split: Literal['train', 'val', 'test'] = 'train'

    domain: ClassVar[str] = 'lums_road'
    credit: ClassVar[str] = 'LUMS Road Dataset, faizanali710 (MIT; by its own note CC BY 4.0)'
    licence: ClassVar[str] = 'MIT; by its own note CC BY 4.0'
    has_classes: ClassVar[bool] = True
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False
    groups: ClassVar[Groups] = (
        Group(
            'neither road nor sidewalk',
            tuple(c.name for i, c in enumerate(CITYSCAPES) if i not in _GROUND),
        ),
    )

    def mend(self, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the labels with black corners void, and sidewalk where there is hardly a road."""
        mended = labels.copy()
        mended[_black_corners(image) & ~np.isin(labels, _GROUND)] = VOID
        if (labels == TrainId.ROAD).mean() < _LEAST_ROAD:
            mended[labels == TrainId.SIDEWALK] = VOID
        return mended

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by name."""
        folders = Folders('images', 'labels', PICTURES)
        names = [f'{_PREFIX[self.split]}_*']
        return in_folders(self.kind, root / self.root, (folders,), names=names, every_label=False)

    def table(self, root: Path) -> Table:
        """Return road, which speed bumps are part of, sidewalk, and the group of the rest."""
        return table_of(
            {
                0: group_label(0),
                1: VOID,
                2: TrainId.ROAD,
                3: TrainId.SIDEWALK,
                4: TrainId.ROAD,
                255: VOID,
            }
        )

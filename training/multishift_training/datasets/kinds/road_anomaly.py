# SPDX-License-Identifier: Apache-2.0
"""RoadAnomaly of EPFL."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from multishift_perception.classes import NOVEL
from multishift_perception.images.listing import PICTURES
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import Folders, in_folders
from multishift_training.datasets.tables import ANOMALY, Table, table_of

# Rearranged copies are common: those that known projects hand round.
_VARIANTS = (
    Folders('frames', 'frames', ('.jpg',), ('.labels/labels_semantic.png',)),
    Folders('images/val', 'annotations/val', PICTURES, ('.labels/labels_semantic.png',)),
    Folders('original', 'labels'),
    Folders('images', 'labels_masks'),
)


class RoadAnomalyData(ImageSet):
    """RoadAnomaly (EPFL), as released or rearranged, with anomalies marked 2 or 1.

    Attributes:
        root: folder of the data set.
    """

    kind: Literal['road_anomaly']
    root: Path = Path('road_anomaly')

    domain: ClassVar[str] = 'road_anomaly'
    has_classes: ClassVar[bool] = False
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by name."""
        return in_folders(self.kind, root / self.root, _VARIANTS)

    def table(self, root: Path) -> Table:
        """Return what is anomalous, and what is not."""
        # The raw release says 2 for what later copies of it call 1.
        return table_of({**ANOMALY, 2: NOVEL})

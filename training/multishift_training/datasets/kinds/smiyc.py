# SPDX-License-Identifier: Apache-2.0
"""The tracks of SegmentMeIfYouCan."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from multishift_perception.images.listing import PICTURES
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import Folders, in_folders
from multishift_training.datasets.tables import ANOMALY, Table, table_of


class RoadAnomaly21Data(ImageSet):
    """SegmentMeIfYouCan's anomaly track; only its validation images have labels.

    Attributes:
        root: folder that holds ``images/`` and ``labels_masks/``.
    """

    kind: Literal['road_anomaly21']
    root: Path = Path('dataset_AnomalyTrack')

    domain: ClassVar[str] = 'road_anomaly21'
    licence: ClassVar[str] = 'research use'
    has_classes: ClassVar[bool] = False
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List the images that have labels."""
        return _labelled(self.kind, root / self.root)

    def table(self, root: Path) -> Table:
        """Return what is anomalous, and what is not."""
        return table_of(ANOMALY)


class RoadObstacle21Data(ImageSet):
    """SegmentMeIfYouCan's obstacle track; only its validation images have labels.

    Attributes:
        root: folder that holds ``images/`` and ``labels_masks/``.
    """

    kind: Literal['road_obstacle21']
    root: Path = Path('dataset_ObstacleTrack')

    domain: ClassVar[str] = 'road_obstacle21'
    licence: ClassVar[str] = 'research use'
    has_classes: ClassVar[bool] = False
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List the images that have labels."""
        return _labelled(self.kind, root / self.root)

    def table(self, root: Path) -> Table:
        """Return what is an obstacle, and what is not."""
        return table_of(ANOMALY)


def _labelled(kind: str, root: Path) -> list[Entry]:
    folders = Folders('images', 'labels_masks', PICTURES, ('_labels_semantic.png',))
    return in_folders(kind, root, (folders,), every_image=False)

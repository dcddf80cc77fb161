# SPDX-License-Identifier: Apache-2.0
"""MUAD."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from multishift_perception.classes import NOVEL, VOID
from multishift_training.datasets.config import Truth
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.layouts import Folders, in_folders
from multishift_training.datasets.tables import IDENTITY, Table, table_of

_NOVEL = {19: NOVEL, 20: NOVEL}
_CLASSES = {**dict.fromkeys(range(21, 256), VOID), **IDENTITY, **_NOVEL}
_ANOMALY = {**dict.fromkeys(range(255), 0), **_NOVEL, VOID: VOID}


class MuadData(ImageSet):
    """MUAD's out-of-distribution test set.

    Attributes:
        root: folder that holds ``leftImg8bit/`` and ``leftLabel/``.
        truth: ``classes`` gives known pixels their class, and makes those of no class of ours
            void; ``anomaly`` calls all of these known (label 0), as the published anomaly figures
            do.
    """

    kind: Literal['muad']
    root: Path = Path('MUAD_challenge/test_sets/test_OOD')
    truth: Truth = 'classes'

    domain: ClassVar[str] = 'muad'
    learns_novel: ClassVar[bool] = False
    may_be_partner: ClassVar[bool] = False

    @property
    def has_classes(self) -> bool:
        """As the description chooses."""
        return self.truth == 'classes'

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by name."""
        folders = Folders('leftImg8bit', 'leftLabel', ('.png',))
        return in_folders(self.kind, root / self.root, (folders,))

    def table(self, root: Path) -> Table:
        """Return train ids as classes, or as what is known."""
        return table_of(_CLASSES if self.truth == 'classes' else _ANOMALY)

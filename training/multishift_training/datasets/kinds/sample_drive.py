# SPDX-License-Identifier: Apache-2.0
"""The synthetic drive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from multishift_perception.images.label_map import own_labels
from multishift_perception.sample_drive import CONDITIONS
from multishift_perception.schema.words import Words, check_name, one_of
from multishift_training.datasets.config import Size
from multishift_training.datasets.entries import Entry
from multishift_training.datasets.kinds.base import ImageSet
from multishift_training.datasets.rendered import rendered
from multishift_training.datasets.tables import Table

_Condition = Annotated[
    str,
    AfterValidator(lambda name: check_name(name, 'condition', CONDITIONS)),
    Words(one_of(CONDITIONS)),
]


class SampleDriveData(ImageSet):
    """Independent frames of the synthetic drive.

    Attributes:
        split: which novel objects occur.
        frames: number of scenes.
        seed: of the first scene; the next has the next one.
        size: rows and columns.
        conditions: every scene is rendered in each of these; if empty, each in one of its own.
            The same scene in two conditions shows the same things at the same places.
        variety: ``usual`` for the demo's kind of street and camera; ``wide`` for vehicles,
            cameras, roads, materials, skies and traffic of any kind, seen through any lens.
        learn_novel: in training, keep the novel objects that stand in the scenes; if not, they
            are void there.
    """

    kind: Literal['sample_drive']
    split: Literal['train', 'val', 'demo']
    frames: int = Field(ge=1)
    seed: int = Field(ge=0)
    size: Size = (360, 640)
    conditions: list[_Condition] = []
    variety: Literal['usual', 'wide'] = 'usual'
    learn_novel: bool = True

    domain: ClassVar[str] = 'sample_drive'
    licence: ClassVar[str] = 'Apache-2.0, as this program, which renders it'
    has_classes: ClassVar[bool] = True
    may_be_partner: ClassVar[bool] = True

    @field_validator('conditions')
    @classmethod
    def _distinct(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError('a condition is named twice')
        return names

    @property
    def learns_novel(self) -> bool:
        """As the description chooses."""
        return self.learn_novel

    def entries(self, root: Path, cache: Path) -> list[Entry]:
        """List by seed and condition; what is not in ``cache`` is rendered."""
        return rendered(self, cache)

    def table(self, root: Path) -> Table:
        """Return our own encoding."""
        return own_labels()

    def count(self, root: Path) -> int:
        """Return how many frames are rendered when they are needed."""
        return self.frames * max(len(self.conditions), 1)

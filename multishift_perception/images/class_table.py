# SPDX-License-Identifier: Apache-2.0
"""Class tables: files that say which classes a network of one's own knows.

A table lists the classes by name and colour, in the order of their label values, and which values
of the user's label images stand for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from multishift_perception.classes import NOVEL, VOID, SemanticClass
from multishift_perception.images.label_map import UNMAPPED, RawValue
from multishift_perception.schema.words import did_you_mean
from multishift_perception.schema.yaml_files import read_typed

T = TypeVar('T')

Byte = Annotated[int, Field(strict=True, ge=0, le=255)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_RESERVED = ('novel', 'void')


class _Strict(BaseModel):
    model_config = ConfigDict(extra='forbid', frozen=True)


class TableClass(_Strict):
    """A class that the network knows.

    Attributes:
        name: of the class, unique in the table.
        color: red, green and blue of the class in overlays, unique in the table.
        labels: values of label images that stand for it; if no class of the table has any, each
            has its place in the list, from 0 on.
    """

    name: Name
    color: tuple[Byte, Byte, Byte]
    labels: list[RawValue] = []


class TableGroup(_Strict):
    """A coarse label, which stands for any of several classes.

    Attributes:
        name: of the group.
        classes: names of its classes; no class is in two groups.
        labels: values of label images that stand for it.
    """

    name: Name
    classes: list[Name] = Field(min_length=1)
    labels: list[RawValue] = Field(min_length=1)


class ClassTable(_Strict):
    """The classes of a network, and what stands for them in label images.

    A value of a label image that the table does not list is an error.

    Attributes:
        classes: in the order of the network's outputs.
        groups: coarse labels.
        novel: values of label images that stand for novel objects.
        void: values that stand for nothing, and are ignored; if none is given, 255, unless it
            stands for something else.
    """

    classes: list[TableClass] = Field(min_length=1, max_length=UNMAPPED)
    groups: list[TableGroup] = []
    novel: list[RawValue] = []
    void: list[RawValue] | None = None

    @model_validator(mode='after')
    def _fitting(self) -> ClassTable:
        self._check_names()
        if color := _twice(c.color for c in self.classes):
            first, second, *_ = (c.name for c in self.classes if c.color == color)
            raise ValueError(
                f'classes: {first} and {second} have the colour {list(color)}: give one another'
            )
        if black := [c.name for c in self.classes if not any(c.color)]:
            raise ValueError(
                f'classes: {black[0]} is black, which overlays leave out: give it another colour'
            )
        if len(self.classes) + len(self.groups) > UNMAPPED:
            raise ValueError(
                f'groups: {len(self.classes)} classes and {len(self.groups)} groups are more '
                f'than the {UNMAPPED} that labels can tell apart: leave some out'
            )
        bare = [c.name for c in self.classes if not c.labels]
        if bare and len(bare) < len(self.classes):
            raise ValueError(
                f'classes: {", ".join(bare)} has no labels, others have: give labels to all '
                'classes, or to none'
            )
        given = [self.class_labels, [g.labels for g in self.groups], [self.novel, self.void or []]]
        if (value := _twice(chain.from_iterable(chain.from_iterable(given)))) is not None:
            raise ValueError(f'label value {value} is given twice: leave one of them')
        return self

    def _check_names(self) -> None:
        names = [c.name for c in self.classes]
        for sort, found in (('classes', names), ('groups', [g.name for g in self.groups])):
            if name := _twice(found):
                raise ValueError(f'{sort}: two are called {name}: rename one of them')
        for name in _RESERVED:
            if name in names:
                raise ValueError(
                    f'classes: {name} is no class: list its label values under the key {name}'
                )
        grouped = [(g.name, name) for g in self.groups for name in g.classes]
        for group, name in grouped:
            if name not in names:
                hint = did_you_mean(name, names)
                raise ValueError(f'groups: {name} of group {group} is no class{hint}')
        if name := _twice(name for _, name in grouped):
            raise ValueError(f'groups: {name} is in two groups, or twice in one: leave one')

    @property
    def semantic_classes(self) -> tuple[SemanticClass, ...]:
        """The classes, in order of their label values."""
        return tuple(SemanticClass(c.name, c.color) for c in self.classes)

    @property
    def class_labels(self) -> list[list[int]]:
        """The values of label images that stand for each class."""
        if any(c.labels for c in self.classes):
            return [c.labels for c in self.classes]
        return [[place] for place in range(len(self.classes))]

    def look_up_table(self) -> NDArray[np.uint8]:
        """Return the labels ``uint8 [256]`` of the values of label images.

        Class c is c, the g-th group is ``len(classes) + g``; what the table does not list is
        ``UNMAPPED``.
        """
        table = np.full(256, UNMAPPED, np.uint8)
        for label, values in enumerate([*self.class_labels, *(g.labels for g in self.groups)]):
            table[values] = label
        table[self.novel] = NOVEL
        if self.void is not None:
            table[self.void] = VOID
        elif table[VOID] == UNMAPPED:
            table[VOID] = VOID
        return table

    def without_groups(self) -> NDArray[np.uint8]:
        """Return the same with groups as void, where nothing knows what they stand for."""
        table = self.look_up_table()
        for group in self.groups:
            table[group.labels] = VOID
        return table


def read_class_table(path: Path) -> ClassTable:
    """Read a class table.

    Raises:
        MultishiftError: the file is missing, no YAML, or a field is wrong; the message names it.
    """
    what = 'a class table, such as `classes: [{name: road, color: [128, 64, 128]}, ...]`'
    return read_typed(path, ClassTable, what)


def differences(
    own: Sequence[SemanticClass], others: Sequence[SemanticClass]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names that only ``own`` has, and those that only ``others`` has."""
    names, other_names = [c.name for c in own], [c.name for c in others]
    return (
        tuple(name for name in names if name not in other_names),
        tuple(name for name in other_names if name not in names),
    )


def _twice(values: Iterable[T]) -> T | None:
    return next((value for value, count in Counter(values).items() if count > 1), None)

# SPDX-License-Identifier: Apache-2.0
"""Groups of classes: what a coarse label stands for, such as ``vehicle`` for car, truck and bus.

In label arrays the g-th group of a table is the value ``len(CITYSCAPES) + g``, beside classes,
``NOVEL`` and ``VOID``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import CITYSCAPES, SemanticClass, color_table
from multishift_perception.images.label_map import class_index


class Group(NamedTuple):
    """A coarse label.

    Attributes:
        name: of the group, for people.
        classes: names of the classes that it may stand for.
    """

    name: str
    classes: tuple[str, ...]

    @property
    def indices(self) -> tuple[int, ...]:
        """The train ids of its classes."""
        return tuple(class_index(name) for name in self.classes)


Groups = tuple[Group, ...]


def group_label(place: int) -> int:
    """Return the label value of a group, by its place in its table."""
    return len(CITYSCAPES) + place


def joined(tables: Iterable[Groups]) -> Groups:
    """Return one table for several: each group once, in order of appearance."""
    return tuple(dict.fromkeys(group for table in tables for group in table))


def membership(groups: Sequence[Group]) -> NDArray[np.bool_]:
    """Return which classes a group stands for, ``bool [G,C]``."""
    table = np.zeros((len(groups), len(CITYSCAPES)), np.bool_)
    for row, group in zip(table, groups, strict=True):
        row[list(group.indices)] = True
    return table


def members(groups: Sequence[Group]) -> dict[int, tuple[int, ...]]:
    """Return the train ids that each group's label value stands for."""
    return {group_label(place): group.indices for place, group in enumerate(groups)}


def with_groups(
    classes: Sequence[SemanticClass], groups: Sequence[Group]
) -> dict[int, SemanticClass]:
    """Return name and colour of each label value; a group has the colour of its first class."""
    shown = dict(enumerate(classes))
    for (value, indices), group in zip(members(groups).items(), groups, strict=True):
        shown[value] = SemanticClass(group.name, CITYSCAPES[indices[0]].color)
    return shown


def label_colors(classes: Sequence[SemanticClass], groups: Sequence[Group]) -> NDArray[np.uint8]:
    """Return the look-up table ``uint8 [256,3]`` of `color_table`, with colours of groups."""
    table = color_table(classes)
    for value, shown in with_groups(classes, groups).items():
        table[value] = shown.color
    return table

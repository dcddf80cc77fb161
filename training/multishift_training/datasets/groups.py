# SPDX-License-Identifier: Apache-2.0
"""Groups of classes: what a coarse label stands for, such as ``vehicle`` for car, truck and bus.

In label arrays the g-th group of a table is the value C + g, beside C classes, ``NOVEL`` and
``VOID``. Classes are Cityscapes' where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import CITYSCAPES, SemanticClass, color_table


class Group(NamedTuple):
    """A coarse label.

    Attributes:
        name: of the group, for people.
        classes: names of the classes that it may stand for.
    """

    name: str
    classes: tuple[str, ...]

    def indices(self, classes: Sequence[SemanticClass] = CITYSCAPES) -> tuple[int, ...]:
        """Return the label values of its classes, in their order in the group.

        Those that a network does not know have none.
        """
        values = {known.name: value for value, known in enumerate(classes)}
        return tuple(values[name] for name in self.classes if name in values)


Groups = tuple[Group, ...]

_GREY = (128, 128, 128)


def group_label(place: int, classes: Sequence[SemanticClass] = CITYSCAPES) -> int:
    """Return the label value of a group, by its place in its table."""
    return len(classes) + place


def joined(tables: Iterable[Groups]) -> Groups:
    """Return one table for several: each group once, in order of appearance."""
    return tuple(dict.fromkeys(group for table in tables for group in table))


def membership(
    groups: Sequence[Group], classes: Sequence[SemanticClass] = CITYSCAPES
) -> NDArray[np.bool_]:
    """Return which classes a group stands for, ``bool [G,C]``."""
    table = np.zeros((len(groups), len(classes)), np.bool_)
    for row, group in zip(table, groups, strict=True):
        row[list(group.indices(classes))] = True
    return table


def members(
    groups: Sequence[Group], classes: Sequence[SemanticClass] = CITYSCAPES
) -> dict[int, tuple[int, ...]]:
    """Return the classes' label values that each group's label value stands for."""
    return {
        group_label(place, classes): group.indices(classes) for place, group in enumerate(groups)
    }


def with_groups(
    classes: Sequence[SemanticClass], groups: Sequence[Group]
) -> dict[int, SemanticClass]:
    """Return name and colour of each label value.

    A group has the colour of the first of its classes, or is grey where none is known.
    """
    shown = dict(enumerate(classes))
    for (value, indices), group in zip(members(groups, classes).items(), groups, strict=True):
        color = classes[indices[0]].color if indices else _GREY
        shown[value] = SemanticClass(group.name, color)
    return shown


def label_colors(classes: Sequence[SemanticClass], groups: Sequence[Group]) -> NDArray[np.uint8]:
    """Return the look-up table ``uint8 [256,3]`` of `color_table`, with colours of groups."""
    table = color_table(classes)
    for value, shown in with_groups(classes, groups).items():
        table[value] = shown.color
    return table

# SPDX-License-Identifier: Apache-2.0
"""The data sets that configurations may name."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from multishift_perception.images.label_map import class_index
from multishift_perception.registry import Registry
from multishift_perception.schema.open_union import OpenUnion
from multishift_training.datasets.config import check_kind
from multishift_training.datasets.groups import Groups
from multishift_training.datasets.kinds.base import ImageSet

T = TypeVar('T', bound=type[ImageSet])


def register(kind: T) -> T:
    """Let configurations name a data set from now on.

    Returns:
        The class itself, so that this may decorate it.

    Raises:
        TypeError: a part of it is missing or wrong, or its name is taken.
    """
    name = check_kind(kind, 'data set', ImageSet)
    if lacking := sorted(kind.__abstractmethods__):
        them = 'it' if len(lacking) == 1 else 'them'
        raise TypeError(
            f'data set {kind.__name__} ({name}) lacks {", ".join(lacking)}: define {them} in its '
            'class, as ImageSet says'
        )
    may_be_partner: object = kind.may_be_partner
    if not isinstance(may_be_partner, bool):
        raise TypeError(
            f'data set {kind.__name__} ({name}): may_be_partner is the same for all its '
            'descriptions: make it a ClassVar, true or false'
        )
    groups: object = kind.groups  # a property where descriptions of the kind have their own
    if isinstance(groups, tuple) and (fault := _group_fault(groups)):
        raise TypeError(f'data set {kind.__name__} ({name}): {fault}')
    KINDS.add(name, kind)
    return kind


KINDS: Registry[type[ImageSet]] = Registry(
    'data set', 'multishift.datasets', lambda _, found: register(found)
)


def kinds() -> tuple[type[ImageSet], ...]:
    """Return the data sets, in the order of their registration."""
    return tuple(KINDS.values())


def partner_kinds() -> tuple[type[ImageSet], ...]:
    """Return those of them whose images can be partners."""
    answers: dict[type[ImageSet], Any] = {kind: kind.may_be_partner for kind in kinds()}
    return tuple(kind for kind, may_be in answers.items() if may_be)


ImageData = Annotated[ImageSet, OpenUnion(kinds)]


def _group_fault(groups: Groups) -> str:
    seen: set[str] = set()
    for group in groups:
        if not group.classes:
            return f'group {group.name} has no class'
        for name in group.classes:
            try:
                class_index(name)
            except ValueError as error:
                return f'group {group.name}: {error}'
        if twice := [name for name in group.classes if name in seen]:
            return f'{", ".join(twice)} is in two groups'
        seen.update(group.classes)
    return ''

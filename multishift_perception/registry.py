# SPDX-License-Identifier: Apache-2.0
"""Things by name: what ships, what a program adds, and what installed packages offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
import re
from typing import Any, TypeVar

from multishift_perception.errors import MultishiftError, one_line

T = TypeVar('T')


class Registry(Mapping[str, T]):
    """Things of one sort by name, in the order in which they were added.

    Installed packages offer theirs as entry points. These are loaded when something is first
    looked up, and not before: whoever reads no name pays nothing, and what is offered may import
    the module that holds the registry.
    """

    def __init__(self, sort: str, group: str, register: Callable[[str, Any], object]) -> None:
        """Make an empty registry.

        Args:
            sort: what its things are, for messages, such as ``data set``.
            group: entry point group of what packages offer.
            register: is given the name of an entry point and what that loads, which it checks
                and adds; raises TypeError where something is missing or wrong.
        """
        self._sort = sort
        self._group = group
        self._register = register
        self._things: dict[str, T] = {}
        self._is_complete = False

    def add(self, name: str, thing: T) -> None:
        """Add a thing; a second time the same one is no fault.

        Raises:
            TypeError: the name is taken, or is none.
        """
        if not re.fullmatch(r'[A-Za-z0-9][\w.-]*', name):
            raise TypeError(
                f'{self._sort} {name!r}: a name is made of letters, digits, `_`, `-` and `.`'
            )
        if self._things.get(name, thing) is not thing:
            other = self._things[name]
            raise TypeError(
                f'{self._sort} {name} is there already ({_title(other)}): give {_title(thing)} '
                'another name'
            )
        self._things[name] = thing

    def __getitem__(self, name: str) -> T:
        """Return the thing of a name.

        Raises:
            KeyError: there is none.
            MultishiftError: what a package offers is broken.
        """
        self.load()
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        self.load()
        return iter(tuple(self._things))

    def __len__(self) -> int:
        """Return how many there are."""
        self.load()
        return len(self._things)

    def load(self) -> None:
        """Load what packages offer, where that is still to be done.

        Whoever looks a name up only after long work calls this before.

        Raises:
            MultishiftError: what a package offers is broken.
        """
        if self._is_complete:
            return
        self._is_complete = True  # what is loaded may look something up
        try:
            for offer in sorted(entry_points(group=self._group), key=lambda found: found.name):
                self._take(offer)
        except MultishiftError:
            self._is_complete = False
            raise

    def _take(self, offer: EntryPoint) -> None:
        try:
            self._register(offer.name, offer.load())
        except (Exception, SystemExit) as error:  # whatever the code of a stranger raises
            package = offer.dist.name if offer.dist is not None else 'unknown'
            reason = f'{type(error).__name__}: {one_line(error)}'
            raise MultishiftError(
                f'package {package} offers the {self._sort} {offer.name} ({offer.value}), which '
                f'does not load ({reason}): mend the package, or `pip uninstall {package}`'
            ) from error


def _title(thing: object) -> str:
    name = getattr(thing, '__qualname__', None)
    return f'{thing.__module__}.{name}' if name else str(thing)

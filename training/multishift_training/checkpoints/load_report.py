# SPDX-License-Identifier: Apache-2.0
"""What came of loading a checkpoint, in words."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

_SHOWN = 8


class LoadReport(NamedTuple):
    """What a checkpoint gave; all keys are the file's, without wrappers, sorted.

    Attributes:
        layout: the published layout the file was recognised as.
        used: keys whose tensors are in the network now.
        missing: keys the layout lets be missing, and that were.
        left_over: keys that belong to the layout and that the network has no use for.
    """

    layout: str
    used: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        """Return a summary of a few lines."""
        lines = [f'layout: {self.layout}', f'{len(self.used)} tensors used']
        for what, keys in (('missing', self.missing), ('left over', self.left_over)):
            if keys:
                lines.append(f'{len(keys)} {what}, as this layout allows: {listed(keys)}')
        return '\n'.join(lines)


def listed(items: Collection[str]) -> str:
    """Return the first items, and how many more there are."""
    first = ', '.join(sorted(items)[:_SHOWN])
    more = len(items) - _SHOWN
    return f'{first} and {more} more' if more > 0 else first

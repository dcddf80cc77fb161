# SPDX-License-Identifier: Apache-2.0
"""What parameter files give to all nodes: rcl hands it over as if it were meant for this one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

_ALL_NODES = ('*', '**')
_PARAMETERS = 'ros__parameters'


def parameters_of_all_nodes(arguments: Sequence[str]) -> frozenset[str]:
    """Return the names of the parameters under ``/**`` or the like in the files of a command line.

    Args:
        arguments: a command line that rcl has accepted, its files too.
    """
    files = (Path(file) for flag, file in pairwise(arguments) if flag == '--params-file')
    return frozenset(
        name
        for file in files
        for section in _sections(yaml.load(file.read_text(), yaml.BaseLoader))
        for name in _names(section)
    )


def _sections(node: Any, name: str = '') -> Iterator[Any]:
    """Yield the sections for all nodes; names of nodes may be nested by namespace."""
    if not isinstance(node, dict):
        return
    if _PARAMETERS in node and name.rpartition('/')[2] in _ALL_NODES:
        yield node[_PARAMETERS]
    for key, inner in node.items():
        if key != _PARAMETERS:
            yield from _sections(inner, str(key))


def _names(section: Any, prefix: str = '') -> Iterator[str]:
    if not isinstance(section, dict):
        return
    for key, value in section.items():
        name = f'{prefix}{key}'
        if isinstance(value, dict):
            yield from _names(value, f'{name}.')
        else:
            yield name

# SPDX-License-Identifier: Apache-2.0
"""Values that a command line gives in place of a file's: ``stages.0.epochs=2``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import re
from typing import Any

import yaml

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.schema.faults import Source
from multishift_perception.schema.yaml_files import Document

# As messages name a place, too: stages[0].epochs
_SEPARATORS = re.compile(r'[.\[\]]+')


def override(document: Document, assignments: Sequence[str]) -> Document:
    """Return a document with values set; its messages then name them, and no lines.

    Args:
        document: is not changed, nor is what it repeats by anchors.
        assignments: ``PLACE=VALUE`` each: keys and positions with dots between them, and YAML.
            Blocks that the file leaves out are made.

    Raises:
        MultishiftError: one is no such assignment, or leads into a value or past a list's end.
    """
    if not assignments:
        return document
    content = _unshared(document.content)
    for assignment in assignments:
        place, equals, text = assignment.partition('=')
        keys = [key for key in _SEPARATORS.split(place) if key]
        if not equals or not keys:
            raise MultishiftError(f'{assignment} sets nothing: give PLACE=VALUE, as seed=3')
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            reason = one_line(error)
            raise MultishiftError(f'{assignment}: no valid YAML ({reason})') from None
        _set(content, keys, value, assignment)
    where = f'{document.where} with {" ".join(assignments)}'
    return replace(document, where=where, source=Source(content, None), content=content)


def _unshared(content: Any) -> Any:
    """Return a copy in which nothing stands twice, as what anchors repeat does."""
    if isinstance(content, dict):
        return {key: _unshared(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_unshared(value) for value in content]
    return content


def _set(content: Any, keys: Sequence[str], value: Any, assignment: str) -> None:
    holder = content
    for i, key in enumerate(keys):
        if isinstance(holder, list):
            at: Any = _position(holder, key, keys[:i], assignment)
        elif isinstance(holder, dict):
            at = key
        else:
            raise MultishiftError(
                f'{assignment}: {".".join(keys[:i])} is {holder}, which holds no {key}'
            )
        if i == len(keys) - 1:
            holder[at] = value
            return
        if isinstance(holder, dict) and holder.get(at) is None:
            holder[at] = {}
        holder = holder[at]


def _position(holder: Sequence[Any], key: str, above: Sequence[str], assignment: str) -> int:
    if key.isdecimal() and int(key) < len(holder):
        return int(key)
    raise MultishiftError(
        f'{assignment}: {".".join(above)} is a list of {len(holder)}: give 0 to {len(holder) - 1} '
        f'in place of {key}'
    )

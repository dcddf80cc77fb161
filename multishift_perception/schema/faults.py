# SPDX-License-Identifier: Apache-2.0
"""One line for each fault that validation finds: its place as the file has it, value, and mend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails
import yaml

from multishift_perception.schema.composed import Flat
from multishift_perception.schema.words import Accepted, did_you_mean, one_of, tag_of, words

_SHOWN = 60  # characters of a value
_TEXT = 'string_type'


@dataclass(frozen=True)
class Source:
    """A whole file.

    Attributes:
        content: what was read.
        node: the YAML that says it; None where there is none.
    """

    content: Any
    node: yaml.Node | None

    def name(self, path: Sequence[Any], *, missing: bool = False) -> str:
        """Return a path as a person writes it, with its line: ``stages[0].name (line 3)``.

        Of what is missing, the line where the block begins that lacks it.
        """
        text, value = '', self.content
        for key in path:
            text += f'[{key}]' if isinstance(value, list) else f'.{key}'
            value = self._entry(value, key)
        line, text = self._line(path), text.removeprefix('.')
        if missing:
            return f'{text} is missing' + (f' in the block of line {line}' if line else '')
        return f'{text} (line {line})' if line else text

    def shown(self, path: Sequence[Any]) -> str:
        """Return what stands at a path, shortened; a single value as the file has it."""
        value = self.content
        for key in path:
            value = self._entry(value, key)
        if value is None or value == '':
            return 'empty'
        node = self._follow(path)[1]
        text = node.value if isinstance(node, yaml.ScalarNode) else str(value)
        text = ' '.join(text.split())
        return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'

    @staticmethod
    def _entry(value: Any, key: Any) -> Any:
        if isinstance(value, list):
            return value[key] if key < len(value) else None
        return value.get(key) if isinstance(value, dict) else None

    def _line(self, path: Sequence[Any]) -> int | None:
        mark = self._follow(path)[0]
        return None if mark is None or not path else mark.line + 1

    def _follow(self, path: Sequence[Any]) -> tuple[yaml.Mark | None, yaml.Node | None]:
        """Return where the last key of a path that the file has stands, and the path's value."""
        mark, node = None, self.node
        for key in path:
            if isinstance(node, yaml.SequenceNode) and key < len(node.value):
                node = node.value[key]
                mark = node.start_mark
            elif isinstance(node, yaml.MappingNode):
                # The last counts: what `<<` brings in stands before a mapping's own keys.
                pairs = [(k, v) for k, v in node.value if k.value == str(key)]
                if not pairs:
                    return mark, None
                mark, node = pairs[-1][0].start_mark, pairs[-1][1]
            else:
                return mark, None
        return mark, node


class _Spot(NamedTuple):
    """Where a fault is.

    Attributes:
        path: keys and positions, as in the file.
        accepted: what is accepted there; None where no key is.
        owner: what the last key stands in.
        is_key: whether the last key is at fault itself, not what it holds.
        beside: keys that may stand beside the owner's own, as the file has them in one block.
    """

    path: tuple[Any, ...]
    accepted: Accepted | None
    owner: Accepted
    is_key: bool = False
    beside: tuple[str, ...] = ()


def fault_line(fault: ErrorDetails, kind: Any, source: Source, within: Sequence[Any] = ()) -> str:
    """Return what is wrong, on one line.

    Args:
        fault: as pydantic finds it.
        kind: the type that was validated against.
        source: the file.
        within: keys under which what was validated stands in it.
    """
    spot = _locate(fault['loc'], kind)
    path = (*within, *spot.path)
    if fault['type'] == 'value_error':
        name = source.name(path)
        return f'{name}: {fault["ctx"]["error"]}' if name else str(fault['ctx']['error'])
    if spot.is_key and spot.accepted:
        return f'{source.name(path)} is no key, expected {words(spot.accepted)}'
    if spot.accepted is None or fault['type'] == 'invalid_key':
        return f'{source.name(path)} is no key{_keys_of(spot)}'
    if fault['type'].startswith('union_tag'):
        union = spot.accepted.without_null
        one = Accepted.of(union.forms[0]) if union.forms else union
        return _wrong_tag(path, one, source)
    if fault['type'] == 'missing' and get_origin(spot.owner.kind) is not tuple:
        return f'{source.name(path, missing=True)}, expected {words(spot.accepted)}'
    if fault['type'] == 'missing':  # of a fixed number of entries
        path, spot = path[:-1], spot._replace(accepted=spot.owner)
    shown = source.shown(path)
    accepted = spot.accepted
    hint = did_you_mean(shown, accepted.choices) if accepted else ''
    if fault['type'] == _TEXT and not isinstance(fault['input'], dict | list | None):
        hint = f" (put it in quotes: '{shown}')"
    name = source.name(path) or 'it'
    return f'{name} is {shown}, expected {words(accepted)}{hint}'


def _wrong_tag(path: tuple[Any, ...], union: Accepted, source: Source) -> str:
    path = (*path, union.tag)
    shown, choices = source.shown(path), [str(choice) for choice in union.choices]
    if shown == 'empty':
        return f'{source.name(path, missing=True)}, expected {one_of(choices)}'
    hint = did_you_mean(shown, choices)
    return f'{source.name(path)} is {shown}, expected {one_of(choices)}{hint}'


def _keys_of(spot: _Spot) -> str:
    """Return what the keys are where one is none of them, and which may have been meant."""
    model = spot.owner.kind
    of_kind = f' of {word}' if (word := tag_of(model)) else ''
    keys = [*model.model_fields, *spot.beside]
    return f'{of_kind}, expected {one_of(keys)}{did_you_mean(spot.path[-1], keys)}'


def _locate(loc: Sequence[Any], kind: Any) -> _Spot:
    """Follow a location: it names members of unions by their tags, which no file has."""
    path: list[Any] = []
    beside: tuple[str, ...] = ()
    owner = accepted = Accepted.of(kind).without_null
    for item in loc:
        if accepted.forms:
            accepted = Accepted.of(accepted.forms[isinstance(item, int)])
        if accepted.tag:
            member = next(m for m in accepted.members if tag_of(m, accepted.tag) == item)
            accepted = Accepted.of(member)
            continue
        if item == '[key]':  # the key before it is at fault, not its value
            return _Spot(tuple(path), Accepted.of(get_args(owner.kind)[0]), owner, is_key=True)
        owner, entry = accepted, _entry(accepted, item)
        if entry is None:
            return _Spot((*path, item), None, owner, beside=beside)
        if Flat() in entry.limits:
            beside = tuple(key for key in owner.kind.model_fields if key != item)
        else:
            beside = ()
            path.append(item)
        accepted = entry.without_null
    return _Spot(tuple(path), accepted, owner)


def _entry(accepted: Accepted, item: Any) -> Accepted | None:
    """Return what is accepted under a key or at a position; None where no key is."""
    kind, inner = accepted.kind, get_args(accepted.kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(item)
        return Accepted.of(field) if field else None
    if get_origin(kind) is dict:
        return Accepted.of(inner[1])
    return Accepted.of(inner[min(int(item), len(inner) - 1)])

# SPDX-License-Identifier: Apache-2.0
"""YAML files of a known form: read, validated, and every fault told by its place in the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
import yaml

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.schema.faults import Source, fault_line

T = TypeVar('T')

# Bytes of a file that nobody writes by hand: it is another one. As many take ten seconds to read.
_LARGEST = 2**20
# Values that a file may stand for: aliases of aliases of aliases of a few lines multiply to any
# number, and a merge or a message goes through all of them.
_MOST_VALUES = 1_000_000
_NULL, _MAP = 'tag:yaml.org,2002:null', 'tag:yaml.org,2002:map'


@dataclass(frozen=True)
class Document:
    """Content that is still to be validated, with where it comes from.

    Attributes:
        where: what names it in messages: its file, and what of it if that is not all.
        source: the whole file.
        content: what is to be validated.
        within: keys under which that stands in the file.
        mend: what to do about a fault in it, where mending the file is not the way.
        folder: of the file; validators find it in their context, as ``folder``.
    """

    where: str
    source: Source
    content: Any
    within: tuple[Any, ...] = ()
    mend: str = ''
    folder: Path = Path()

    @classmethod
    def of_json(cls, where: str, text: str, *, mend: str) -> Document:
        """Read JSON.

        Raises:
            MultishiftError: it is none.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MultishiftError(f'{where} is damaged ({error}): {mend}') from None
        return cls(where, Source(content, None), content, mend=mend)

    def at(self, key: Any) -> Document:
        """Return what stands under a key; messages say so."""
        return replace(self, content=self.content[key], within=(*self.within, key))

    def typed(self, kind: type[T]) -> T:
        """Validate the content.

        Args:
            kind: a model, or any type that pydantic validates.

        Raises:
            MultishiftError: fields are wrong; a line for each names its place, what it holds and
                what is accepted.
        """
        try:
            return TypeAdapter(kind).validate_python(self.content, context={'folder': self.folder})
        except ValidationError as error:
            faults = [fault_line(f, kind, self.source, self.within) for f in error.errors()]
            mend = f': {self.mend}' if self.mend else ''
            # Entries that lack in a list say the same of the whole list.
            lines = [f'{self.where}: {fault}{mend}' for fault in dict.fromkeys(faults)]
            raise MultishiftError('\n'.join(lines)) from None


def read_typed(path: Path, kind: type[T], what: str) -> T:
    """Read and validate a YAML file.

    Args:
        path: of the file.
        kind: model of its content.
        what: what it should be, in words, for the error.

    Raises:
        MultishiftError: it is missing, unreadable, no YAML, or fields are wrong; a line for each.
    """
    return read_document(path, what).typed(kind)


def read_document(path: Path, what: str, *, mend: str = '') -> Document:
    """Read a YAML file that holds keys.

    Args:
        path: of the file.
        what: what it should be, in words, for the error.
        mend: what to do about a fault; when left out, to give another file.

    Raises:
        MultishiftError: as of `read_node`, or a value is none of YAML's own types.
    """
    ending = mend or f'give {what}'
    node = read_node(path, ending)
    with _telling_faults(path, ending):
        content = _Loader('').construct_document(node)
    return Document(str(path), Source(content, node), content, mend=mend, folder=path.parent)


def read_node(path: Path, mend: str) -> yaml.MappingNode:
    """Read a YAML file that holds keys, as it is written: whatever types its tags name.

    Args:
        path: of the file.
        mend: what to do about a fault.

    Raises:
        MultishiftError: it is missing, unreadable, too large, no YAML, empty, or holds no keys.
    """
    with _telling_faults(path, mend):
        with path.open('rb') as file:  # may be a pipe, which has no size to ask for
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise MultishiftError(f'{path} is larger than {_LARGEST:,} bytes: {mend}')
        node = _Loader(data.decode()).get_single_node()
        if node is not None and _values(node, {}) > _MOST_VALUES:
            raise MultishiftError(
                f'{path}: its aliases stand for more than {_MOST_VALUES:,} values: {mend}'
            )
    if node is None or node.tag == _NULL or (node.tag == _MAP and not node.value):
        raise MultishiftError(f'{path} is empty: {mend}')
    if not isinstance(node, yaml.MappingNode) or node.tag != _MAP:
        found = 'a list' if isinstance(node, yaml.SequenceNode) else 'a single value'
        raise MultishiftError(
            f'{path} holds {found} at top level, expected lines `key: value`: {mend}'
        )
    return node


@contextmanager
def _telling_faults(path: Path, mend: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MultishiftError(f'{path} cannot be read ({error.strerror}): {mend}') from None
    except UnicodeDecodeError as error:
        raise MultishiftError(
            f'{path} is no UTF-8 text (from byte {error.start} on: save it as UTF-8): {mend}'
        ) from None
    except yaml.MarkedYAMLError as error:
        raise MultishiftError(f'{path}{_yaml_fault(error)}') from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = one_line(error)
        raise MultishiftError(f'{path} is not valid YAML ({reason}): {mend}') from None


class _Loader(yaml.SafeLoader):
    """A loader to which a key that is given twice is a fault: YAML says so, PyYAML does not."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Checked as written: what `<<` brings may be overridden.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name = key.tag, key.value
            if name in first:
                raise _TwiceError(
                    problem=f'the key {key.value} is given twice, first in line {first[name]}: '
                    'leave one of them',
                    problem_mark=key.start_mark,
                )
            first[name] = key.start_mark.line + 1
        return node


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for, each alias for all that it repeats.

    Args:
        node: the node; it may hold itself.
        known: of other nodes, by identity.
    """
    if id(node) not in known:
        known[id(node)] = 1
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            parts = chain.from_iterable(parts)
        known[id(node)] += sum(_values(part, known) for part in parts)
    return known[id(node)]


class _TwiceError(yaml.MarkedYAMLError):
    """A key is given twice."""


def _yaml_fault(error: yaml.MarkedYAMLError) -> str:
    """Return what follows the file's name."""
    mark = error.problem_mark or error.context_mark
    line = f'line {mark.line + 1}: ' if mark else ''
    problem = error.problem or error.context
    if isinstance(error, _TwiceError):
        return f': {line}{problem}'
    if problem and r"'\t'" in problem:
        problem = 'a tab stands where spaces must: write spaces'
    if problem and problem.startswith('but '):  # what comes before it is said apart
        problem = f'{error.context}, {problem}'
    return f' is not valid YAML: {line}{problem}'

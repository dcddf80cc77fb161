# SPDX-License-Identifier: Apache-2.0
"""What a command line gives as parameters, and to whom.

rcl hands over what comes of it, as if it were meant for this node, and says nothing of what it
passes over or takes for each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
import re

import yaml

from multishift_perception.errors import MultishiftError
from multishift_perception.schema.yaml_files import read_node

_ALL_NODES = ('*', '**')
_PARAMETERS = 'ros__parameters'
_TEXT = 'tag:yaml.org,2002:str'
# As rcl tells types, which is not quite as YAML does.
_BOOL = re.compile('y|Y|n|N|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|[tT]rue|TRUE|[fF]alse|FALSE')
_WHOLE = re.compile('[-+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)')
_SPECIAL = re.compile(r'([-+]?)\.(inf|nan)', re.IGNORECASE)
# The parser that rcl reads by, too; both are the same to Python.
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
_OPTION = re.compile(r'(?:(?P<node>[^:=]+):)?(?P<name>[^:=]+):=(?P<value>.*)', re.DOTALL)


@dataclass(frozen=True)
class Section:
    """Parameters that one place gives to nodes of one name.

    Attributes:
        place: the file, or the option as it was written.
        nodes: full name; ``*`` stands for one part of it, ``**`` for any number.
        values: by the parameters' names.
        is_option: whether it is a ``-p``, not of a file.
    """

    place: str
    nodes: str
    values: Mapping[str, yaml.Node]
    is_option: bool = False

    def fits(self, node: str) -> bool:
        """Return whether it is for a node of a full name."""
        return re.fullmatch(self.nodes.replace('/*', r'(/\w+)'), node) is not None


@dataclass(frozen=True)
class GivenParameters:
    """All that a command line gives.

    Attributes:
        sections: of its parameter files and options, in its order.
    """

    sections: tuple[Section, ...] = ()

    @property
    def of_all_nodes(self) -> frozenset[str]:
        """Names of parameters that files give under ``/**`` or the like."""
        of_files = (s for s in self.sections if not s.is_option)
        sections = (s for s in of_files if s.nodes.rpartition('/')[2] in _ALL_NODES)
        return frozenset(name for section in sections for name in section.values)

    def places_without(self, node: str) -> list[str]:
        """Return the places that give nothing to a node of a full name."""
        fitting = {section.place for section in self.sections if section.fits(node)}
        return [p for p in dict.fromkeys(s.place for s in self.sections) if p not in fitting]

    def giving_way(self, node: str) -> list[tuple[str, str]]:
        """Return the options that a file or another node's name wins over, each with its place.

        rcl takes names of nodes in the order in which they come up first, and what is given to
        one of them in that of the command line; the last wins.
        """
        order = list(dict.fromkeys(section.nodes for section in self.sections))
        fitting = [section for section in self.sections if section.fits(node)]
        taken = {
            name: section
            for section in sorted(fitting, key=lambda section: order.index(section.nodes))
            for name in section.values
        }
        return [
            (option.place, winner.place)
            for option in fitting
            if option.is_option
            for name, value in option.values.items()
            if not (winner := taken[name]).is_option or winner.nodes != option.nodes
            if _shown(winner.values[name]) != _shown(value)
        ]

    def refuse_mixed(self, node: str) -> None:
        """See that of what is given to a node more than once the last is taken.

        rcl keeps a value of each type that the same nodes are given, and rclpy takes one of them
        by its type: of ``1`` and then ``0.5`` the ``1``.

        Raises:
            MultishiftError: it is not.
        """
        taken: dict[tuple[str, str], tuple[str, yaml.Node]] = {}
        last = dict(taken)
        for section in self.sections:
            for name, value in section.values.items():
                key = section.nodes, name
                last[key] = section.place, value
                if section.fits(node) and _rank(value) <= _rank(taken.get(key, last[key])[1]):
                    taken[key] = last[key]
        for (nodes, name), (place, value) in taken.items():
            wanted_place, wanted = last[nodes, name]
            if value is not wanted:
                raise MultishiftError(
                    f'parameter {name} is {_shown(value)} in {place} and {_shown(wanted)} in '
                    f'{wanted_place}: of values of two types ROS takes the wrong one: write '
                    'both in one, such as 1.0 and 0.5'
                )


def given_parameters(arguments: Sequence[str]) -> GivenParameters:
    """Return what a command line gives.

    Args:
        arguments: a command line that rcl has accepted, its files too.
    """
    found: list[Section] = []
    for flag, argument in pairwise(arguments):
        if _names_file(flag, argument):
            sections = list(_sections_of(Path(argument))) or [('', {})]
            found += [Section(argument, nodes, values) for nodes, values in sections]
        elif flag in ('-p', '--param') and (option := _OPTION.fullmatch(argument)):
            value = yaml.compose(option['value'], _LOADER) or yaml.ScalarNode('', '')
            nodes = f'/{option["node"] or "**"}'
            found.append(Section(f'-p {argument}', nodes, {option['name']: value}, True))
    return GivenParameters(tuple(found))


def fault_of_files(arguments: Sequence[str]) -> str:
    """Return what is wrong with the first parameter file at fault; nothing where none is.

    rcl names neither line nor mend.

    Args:
        arguments: a command line that rcl has refused.
    """
    for flag, argument in pairwise(arguments):
        if _names_file(flag, argument):
            try:
                read_node(Path(argument), 'give a parameter file')
            except MultishiftError as error:
                return str(error)
    return ''


def _names_file(flag: str, argument: str) -> bool:
    """Return whether an option names a parameter file; only rcl can read one that is a pipe."""
    return flag == '--params-file' and not Path(argument).is_fifo()


def _sections_of(file: Path) -> Iterator[tuple[str, dict[str, yaml.Node]]]:
    for node in yaml.compose_all(file.read_bytes(), _LOADER):  # rcl joins documents
        yield from _sections(node)


def _sections(node: yaml.Node, name: str = '') -> Iterator[tuple[str, dict[str, yaml.Node]]]:
    """Yield the names of nodes with their parameters; they may be nested by namespace."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, inner in node.value:
        if key.value == _PARAMETERS:
            yield name, dict(_values(inner))
        else:
            yield from _sections(inner, f'{name}/{str(key.value).strip("/")}')


def _values(section: yaml.Node, prefix: str = '') -> Iterator[tuple[str, yaml.Node]]:
    if not isinstance(section, yaml.MappingNode):
        return
    for key, value in section.value:
        name = f'{prefix}{key.value}'
        if isinstance(value, yaml.MappingNode):
            yield from _values(value, f'{name}.')
        else:
            yield name, value


def _rank(node: yaml.Node) -> int:
    """Return the place of a value's type among those that rclpy looks for, one after the other."""
    if isinstance(node, yaml.SequenceNode):  # of one type, or rcl refuses it
        return 4 + (_rank(node.value[0]) if node.value else 4)
    text = str(node.value)
    if not isinstance(node, yaml.ScalarNode) or node.style:
        return 3
    if _BOOL.fullmatch(text):
        return 0
    if _WHOLE.fullmatch(text) and node.tag != _TEXT:
        return 1
    with suppress(ValueError):
        float(_SPECIAL.sub(r'\1\2', text))
        return 2
    return 3


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return f'[{", ".join(map(_shown, node.value))}]'
    return str(node.value) if isinstance(node, yaml.ScalarNode) else 'no value'

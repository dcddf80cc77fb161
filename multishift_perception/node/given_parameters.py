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
_TEXT, _NUMBER = 'tag:yaml.org,2002:str', 'tag:yaml.org,2002:float'
_OPTION = re.compile(r'(?:(?P<node>[^:=]+):)?(?P<name>[^:=]+):=(?P<value>.*)', re.DOTALL)


@dataclass(frozen=True)
class Section:
    """Parameters that one place gives to nodes of one name.

    Attributes:
        place: the file, or the option as it was written.
        nodes: full name; ``*`` stands for one part of it, ``**`` for any number.
        values: by the parameters' names.
    """

    place: str
    nodes: str
    values: Mapping[str, yaml.Node]

    def fits(self, node: str) -> bool:
        """Return whether it is for a node of a full name."""
        return re.fullmatch(self.nodes.replace('/*', r'(/\w+)'), node) is not None


@dataclass(frozen=True)
class GivenParameters:
    """All that a command line gives.

    Attributes:
        files: the sections of its parameter files.
        options: a section for each ``-p``.
    """

    files: tuple[Section, ...] = ()
    options: tuple[Section, ...] = ()

    @property
    def of_all_nodes(self) -> frozenset[str]:
        """Names of parameters that files give under ``/**`` or the like."""
        sections = (s for s in self.files if s.nodes.rpartition('/')[2] in _ALL_NODES)
        return frozenset(name for section in sections for name in section.values)

    def places_without(self, node: str) -> list[str]:
        """Return the places that give nothing to a node of a full name."""
        sections = (*self.files, *self.options)
        fitting = {section.place for section in sections if section.fits(node)}
        return [p for p in dict.fromkeys(s.place for s in sections) if p not in fitting]

    def giving_way(self, node: str) -> list[tuple[str, str]]:
        """Return the options that a file wins over, which names the node, with that file."""
        ours = [section for section in self.files if section.nodes == node]
        return [
            (option.place, section.place)
            for option in self.options
            for section in ours
            for name, value in option.values.items()
            if option.nodes != node
            if name in section.values and section.values[name].value != value.value
        ]

    def refuse_mixed(self, node: str) -> None:
        """See that what is given to a node more than once is of one type each time.

        Of ``1`` and then ``0.5`` for the same nodes rcl keeps both, and rclpy takes the ``1``.

        Raises:
            MultishiftError: it is not.
        """
        first: dict[tuple[str, str], tuple[str, yaml.Node]] = {}
        for section in (*self.files, *self.options):
            for name, value in section.values.items():
                place, other = first.setdefault((section.nodes, name), (section.place, value))
                if section.fits(node) and _kind(value) != _kind(other):
                    raise MultishiftError(
                        f'parameter {name} is {_shown(other)} in {place} and {_shown(value)} in '
                        f'{section.place}: of values of two types ROS takes the wrong one: write '
                        'both in one, such as 1.0 and 0.5'
                    )


def given_parameters(arguments: Sequence[str]) -> GivenParameters:
    """Return what a command line gives.

    Args:
        arguments: the command line; what of it is malformed is left to rcl.

    Raises:
        MultishiftError: a parameter file cannot be read, or is no YAML.
    """
    files: list[Section] = []
    options: list[Section] = []
    for flag, argument in pairwise(arguments):
        if flag == '--params-file' and not Path(argument).is_fifo():  # only one can read a pipe
            node = read_node(Path(argument), 'give a parameter file')
            with suppress(RecursionError):  # what repeats itself; rcl takes no aliases
                files += [Section(argument, nodes, values) for nodes, values in _sections(node)]
        elif flag in ('-p', '--param') and (option := _OPTION.fullmatch(argument)):
            with suppress(yaml.YAMLError):
                value = yaml.compose(option['value'], yaml.SafeLoader) or yaml.ScalarNode('', '')
                nodes = f'/{option["node"] or "**"}'
                options.append(Section(f'-p {argument}', nodes, {option['name']: value}))
    return GivenParameters(tuple(files), tuple(options))


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


def _kind(node: yaml.Node) -> str:
    """Return the type of a value; a number with an exponent is one without a point, too."""
    if not isinstance(node, yaml.ScalarNode):
        return 'list'  # launch gives its own tags
    if node.tag == _TEXT and not node.style:
        with suppress(ValueError):
            float(node.value)
            return _NUMBER
    return str(node.tag)


def _shown(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else 'a list'

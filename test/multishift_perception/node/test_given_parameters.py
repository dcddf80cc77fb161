# SPDX-License-Identifier: Apache-2.0
"""What a command line gives to which node."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
import os
import re

import pytest
import rclpy

from multishift_perception.errors import MultishiftError
from multishift_perception.node.given_parameters import fault_of_files, given_parameters
from multishift_perception.node.rclpy_private import parameter_overrides

VALUES = '{ros__parameters: {rate: 3, lens: {focal: 2.0, mount: {x: 1}}, on: yes}}'


@pytest.fixture
def given(tmp_path):
    """Return a function that writes parameter files, and returns what these and options give."""

    def read(*texts, options=()):
        arguments = ['--ros-args']
        for number, text in enumerate(texts):
            (tmp_path / f'{number}.yaml').write_text(text)
            arguments += ['--params-file', str(tmp_path / f'{number}.yaml')]
        return given_parameters([*arguments, *(word for o in options for word in ('-p', o))])

    return read


@pytest.mark.parametrize('text', [f'/**: {VALUES}', f'/*: {VALUES}', f'/car: {{"*": {VALUES}}}'])
def test_of_all_nodes(given, text):
    assert given(text, options=['a:=1']).of_all_nodes == {
        'rate',
        'lens.focal',
        'lens.mount.x',
        'on',
    }


@pytest.mark.parametrize('text', [f'driver: {VALUES}', f'/**/driver: {VALUES}'])
def test_of_none_or_one(given, text):
    assert not given(text).of_all_nodes
    assert not given(options=['rate:=3']).of_all_nodes


@pytest.mark.parametrize(
    ('text', 'node'),
    [
        (f'/**: {VALUES}', '/car/eyes'),
        (f'eyes: {VALUES}', '/eyes'),
        (f'car: {{eyes: {VALUES}}}', '/car/eyes'),
        (f'/car/eyes: {VALUES}', '/car/eyes'),
        (f'/*/eyes: {VALUES}', '/car/eyes'),
        (f'/**/eyes: {VALUES}', '/eyes'),
        (f'ears: {VALUES}\neyes: {VALUES}', '/eyes'),
    ],
)
def test_a_file_for_a_node(given, text, node):
    assert given(text, options=['rate:=3']).places_without(node) == []


@pytest.mark.parametrize(
    'text', [f'ears: {VALUES}', f'/car/eyes: {VALUES}', f'/*/eyes: {VALUES}', f'/ey: {VALUES}']
)
def test_a_file_for_others(given, tmp_path, text):
    assert given(text).places_without('/eyes') == [str(tmp_path / '0.yaml')]
    assert given(options=['ears:rate:=3']).places_without('/eyes') == ['-p ears:rate:=3']


def test_tags_are_no_fault(given):
    """launch writes such files; rcl passes over tags."""
    found = given('/**: {ros__parameters: {names: !!python/tuple [a, b]}}')
    assert found.of_all_nodes == {'names'}
    text = 'eyes: {ros__parameters: {names: [a]}}'
    given(text.replace('[', '!!python/tuple ['), text).refuse_mixed('/eyes')


@pytest.mark.parametrize(
    'data',
    [
        f'/**: {VALUES}'.encode('utf-16'),
        f'eyes: {VALUES}\n---\n/**: {VALUES}\n'.encode(),
        f'/**: {VALUES}\n/**: {{ros__parameters: {{rate: 2}}}}\n'.encode(),
        b'/**:\n  ros__parameters:\n    rate:\t2\t# of frames\n',
    ],
)
def test_reads_what_rcl_reads(tmp_path, data):
    (tmp_path / 'own.yaml').write_bytes(data)
    arguments = ['--ros-args', '--params-file', str(tmp_path / 'own.yaml')]
    context = rclpy.Context()
    rclpy.init(args=arguments, context=context)
    context.shutdown()
    assert 'rate' in given_parameters(arguments).of_all_nodes


@pytest.mark.parametrize('text', ['', '# rate: 3', '{}'])
def test_an_empty_file_gives_nothing(given, tmp_path, text):
    assert given(text).places_without('/eyes') == [str(tmp_path / '0.yaml')]


def test_options_give_way_to_files_that_name_the_node(given, tmp_path):
    text = f'/**: {{ros__parameters: {{gain: 2}}}}\neyes: {VALUES}'
    found = given(text, options=['rate:=3', 'rate:=4', 'gain:=1'])
    assert found.giving_way('/eyes') == [('-p rate:=4', str(tmp_path / '0.yaml'))]
    assert found.giving_way('/ears') == []
    assert given(text, options=['rate:=4', 'eyes:rate:=5']).giving_way('/eyes') == [
        ('-p rate:=4', '-p eyes:rate:=5')
    ]


VALUES_IN_TURN = ['0.5', '1', 'y', 'on', 'null', '1:30', '5e-1', '09', '[a]', '[1]', '[.5]', '[]']


def test_tells_what_rcl_takes(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '117')
    context = rclpy.Context()
    rclpy.init(args=[], context=context)

    @cache
    def taken(*options):
        """Return the value that the parameter a of a node gets."""
        node = rclpy.create_node(
            'eyes',
            context=context,
            cli_args=['--ros-args', *(word for o in options for word in ('-p', o))],
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        value = parameter_overrides(node)['a'].value
        node.destroy_node()
        return repr(value)

    def told(*options):
        """Return whether it is told that the last option is not what the node gets."""
        given = given_parameters([word for o in options for word in ('-p', o)])
        try:
            given.refuse_mixed('/eyes')
        except MultishiftError:
            return True
        return bool(given.giving_way('/eyes'))

    for first, second in pairwise(VALUES_IN_TURN):
        options = f'a:={first}', f'a:={second}'
        assert told(*options) == (taken(*options) != taken(options[-1])), options
    assert told('b:=3', 'eyes:a:=1', 'a:=2') and taken('b:=3', 'eyes:a:=1', 'a:=2') == '1'
    assert not told('a:=1', 'b:=3', 'a:=2') and taken('a:=1', 'b:=3', 'a:=2') == '2'
    context.shutdown()


@pytest.mark.parametrize('second', ['0.3', '3e-1', "'0.3'", 'often', '[1]'])
def test_values_of_two_types_are_refused(given, tmp_path, second):
    found = given('/**: {ros__parameters: {rate: 1}}', options=[f'rate:={second}'])
    with pytest.raises(MultishiftError, match=f'parameter rate is 1 in {tmp_path}/0.yaml and '):
        found.refuse_mixed('/eyes')


def test_those_of_other_nodes_are_not(given):
    given(
        'ears: {ros__parameters: {rate: 1}}',
        options=['ears:rate:=.5', 'rate:=1', 'rate:=2'],
    ).refuse_mixed('/eyes')


@pytest.mark.parametrize(
    ('data', 'fault'),
    [
        (f'/**: {VALUES}é'.encode('latin-1'), 'is no UTF-8 text'),
        (b'a: ' + b'{b: ' * 2000 + b'}' * 2000, 'is not valid YAML'),
        (b'/**:\n\tros__parameters:\n', 'line 2: a tab stands where spaces must'),
        (b'[1]', 'holds a list at top level'),
        (None, 'Is a directory'),
    ],
)
def test_files_that_rcl_refuses_are_named(tmp_path, data, fault):
    path = tmp_path / 'own.yaml'
    path.mkdir() if data is None else path.write_bytes(data)
    arguments = ['--ros-args', '--params-file', str(path)]
    with pytest.raises(RuntimeError):
        rclpy.init(args=arguments, context=rclpy.Context())
    assert re.match(f'{path}.*{fault}', fault_of_files(arguments))


def test_a_pipe_is_left_to_rcl(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    assert given_parameters(['--params-file', str(tmp_path / 'pipe')]).sections == ()

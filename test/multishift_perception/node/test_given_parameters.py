# SPDX-License-Identifier: Apache-2.0
"""What a command line gives to which node."""

from __future__ import annotations

import os

import pytest

from multishift_perception.errors import MultishiftError
from multishift_perception.node.given_parameters import given_parameters

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
    given(text, text.replace('[', '!!python/tuple [')).refuse_mixed('/eyes')


@pytest.mark.parametrize('text', ['a: &a {b: *a}', '? [a, b]\n: {c: 1}', f'? [a]\n: {VALUES}'])
def test_what_rcl_refuses_is_left_to_it(given, text):
    assert not given(text).of_all_nodes


def test_options_give_way_to_files_that_name_the_node(given, tmp_path):
    found = given(f'eyes: {VALUES}', options=['rate:=3', 'rate:=4', 'eyes:rate:=5', 'gain:=1'])
    assert found.giving_way('/eyes') == [('-p rate:=4', str(tmp_path / '0.yaml'))]
    assert found.giving_way('/ears') == []


@pytest.mark.parametrize('second', ['0.3', '3e-1', "'0.3'", 'often', '[1]', 'true'])
def test_values_of_two_types_are_refused(given, tmp_path, second):
    found = given('/**: {ros__parameters: {rate: 1}}', options=[f'rate:={second}'])
    with pytest.raises(MultishiftError, match=f'parameter rate is 1 in {tmp_path}/0.yaml and '):
        found.refuse_mixed('/eyes')


@pytest.mark.parametrize(
    'options', [['rate:=1', 'rate:=2'], ['rate:=.5', 'rate:=5e-1'], ['rate:={', 'rate:=1']]
)
def test_values_of_one_type_are_not(given, options):
    given('ears: {ros__parameters: {rate: 1}}', options=['ears:rate:=.5', *options]).refuse_mixed(
        '/eyes'
    )


@pytest.mark.parametrize(
    ('data', 'fault'),
    [
        ('/**: {}'.encode('utf-16'), 'is no UTF-8 text'),
        (b'a: 1\n---\na: 1\n', 'expected a single document'),
        (b'a: ' + b'{b: ' * 2000 + b'}' * 2000, 'is not valid YAML'),
        (b'a: 1\na: 2\n', 'line 2: the key a is given twice'),
        (b'# a: 1\n', 'is empty'),
        (None, 'Is a directory'),
    ],
)
def test_files_at_fault_are_named(tmp_path, data, fault):
    path = tmp_path / 'own.yaml'
    path.mkdir() if data is None else path.write_bytes(data)
    with pytest.raises(MultishiftError, match=f'^{path}.*{fault}'):
        given_parameters(['--params-file', str(path)])


def test_a_pipe_is_left_to_rcl(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    assert given_parameters(['--params-file', str(tmp_path / 'pipe')]).files == ()

# SPDX-License-Identifier: Apache-2.0
"""Which parameters a file gives to all nodes."""

from __future__ import annotations

import pytest

from multishift_perception.node.parameter_files import parameters_of_all_nodes

VALUES = '{ros__parameters: {rate: 3, lens: {focal: 2.0, mount: {x: 1}}, on: yes}}'


@pytest.mark.parametrize(
    'text',
    [f'/**: {VALUES}', f'/*: {VALUES}', f'/car: {{"*": {VALUES}}}', f'/**: {{/**: {VALUES}}}'],
)
def test_of_all_nodes(tmp_path, text):
    (tmp_path / 'file.yaml').write_text(text)
    arguments = ['--ros-args', '--params-file', str(tmp_path / 'file.yaml'), '-p', 'a:=1']
    found = parameters_of_all_nodes(arguments)
    assert found == {'rate', 'lens.focal', 'lens.mount.x', 'on'}


@pytest.mark.parametrize('text', ['', f'driver: {VALUES}', f'/**/driver: {VALUES}'])
def test_of_none_or_one(tmp_path, text):
    (tmp_path / 'file.yaml').write_text(text)
    assert not parameters_of_all_nodes(['--params-file', str(tmp_path / 'file.yaml')])
    assert not parameters_of_all_nodes(['-p', 'rate:=3'])

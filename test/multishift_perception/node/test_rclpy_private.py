# SPDX-License-Identifier: Apache-2.0
"""An rclpy that is built otherwise, as no installed one is, and what is said of it."""

from __future__ import annotations

import gc
from pathlib import Path
import sys
from types import SimpleNamespace

import pytest
from rcl_interfaces.msg import Parameter, SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
import rclpy

from multishift_perception.errors import MultishiftError
from multishift_perception.node import rclpy_private


def node():
    return SimpleNamespace(
        _parameter_overrides={},
        _service_change_state=SimpleNamespace(callback=lambda request, response: response),
        _state_machine=SimpleNamespace(
            current_state=(1, 'unconfigured'),
            destroy_when_not_in_use=None,
            trigger_transition_by_id=None,
            trigger_transition_by_label=None,
        ),
    )


def test_what_is_there_is_accepted():
    rclpy_private.check(node())
    assert rclpy_private.lifecycle_state(node()) == 'unconfigured'


@pytest.mark.parametrize(
    'name', ['_parameter_overrides', '_service_change_state', '_state_machine']
)
def test_what_is_missing_is_named_in_one_line(name):
    other = node()
    delattr(other, name)
    with pytest.raises(
        MultishiftError, match=rf'rclpy in /.*{name}.*: run the node with'
    ) as caught:
        rclpy_private.check(other)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_refused_is_not_seen_by_rclpy():
    seen: list[str] = []

    def set_each(request, response):
        seen.extend(p.name for p in request.parameters)
        response.results.append(SetParametersResult(successful=True))
        return response

    def set_all(request, response):
        seen.extend(p.name for p in request.parameters)
        response.result.successful = True
        return response

    each = SimpleNamespace(srv_type=SetParameters, callback=set_each)
    atomic = SimpleNamespace(srv_type=SetParametersAtomically, callback=set_all)
    other = SimpleNamespace(srv_type=GetParameters, callback=None)
    rclpy_private.judge_parameters(
        SimpleNamespace(services=[each, atomic, other]),
        lambda parameter: 'no' if parameter.name == 'bad' else '',
    )
    mixed = [Parameter(name=name) for name in ('a', 'bad', 'b')]
    answer = each.callback(SetParameters.Request(parameters=mixed), SetParameters.Response())
    assert [(r.successful, r.reason) for r in answer.results] == [
        (True, ''),
        (False, 'no'),
        (True, ''),
    ]
    kind = SetParametersAtomically
    result = atomic.callback(kind.Request(parameters=mixed), kind.Response()).result
    assert (result.successful, result.reason, seen) == (False, 'no', ['a', 'b'])
    assert atomic.callback(kind.Request(parameters=mixed[:1]), kind.Response()).result.successful
    assert other.callback is None


def test_an_executor_that_cannot_be_made_is_freed_in_silence(monkeypatch):
    unraised = []
    monkeypatch.setattr(sys, 'unraisablehook', lambda fault: unraised.append(fault.exc_type))
    with pytest.raises(Exception):  # noqa: B017  whatever rclpy raises of a context that is down
        rclpy_private.Executor(context=rclpy.Context())
    gc.collect()
    assert not unraised


def test_nothing_private_is_taken_elsewhere():
    """The real rclpy passes the check in every test that starts the node."""
    package = Path(rclpy_private.__file__).parents[1]
    taken = [
        file.name
        for file in package.rglob('*.py')
        for name in (
            '_parameter_overrides',
            '_service_change_state',
            '_state_machine',
            'rclpy.impl',
            '_sigint_gc',
        )
        if name in file.read_text()
    ]
    assert set(taken) == {'rclpy_private.py'}

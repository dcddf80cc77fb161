# SPDX-License-Identifier: Apache-2.0
"""When a bond is formed, and what is said where none is; `bondpy` by a stand-in."""

from __future__ import annotations

from collections.abc import Callable
import logging
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

pytest.importorskip('rclpy')

from multishift_perception.node.bond import form_bond

Put = Callable[[Any], Mock]


def node(*, runs: bool = True) -> Any:
    context = SimpleNamespace(ok=lambda: runs)
    return Mock(context=context, get_name=lambda: 'eyes', bonds=[])


@pytest.fixture
def put_bondpy(monkeypatch: pytest.MonkeyPatch) -> Put:
    def put(kind: Any) -> Mock:
        """Have `bondpy` offer a class of bonds, or be absent."""
        module = None if kind is None else SimpleNamespace(Bond=kind)
        monkeypatch.setitem(sys.modules, 'bondpy', module and SimpleNamespace(bondpy=module))
        monkeypatch.setitem(sys.modules, 'bondpy.bondpy', module)
        return kind

    return put


@pytest.mark.parametrize(
    ('period', 'level'), [(0.25, logging.INFO), (0.1, logging.WARNING), (0.0, None)]
)
def test_without_bondpy_one_line_says_so_and_warns_who_asked_for_a_bond(
    put_bondpy: Put, caplog: pytest.LogCaptureFixture, period: float, level: int | None
) -> None:
    put_bondpy(None)
    with caplog.at_level(logging.INFO):
        assert form_bond(node(), period) is None
    assert [record.levelno for record in caplog.records] == ([level] if level else [])
    if level:
        assert 'ros-$ROS_DISTRO-bondpy, or give the manager bond_timeout: 0.0' in caplog.text


def test_a_period_of_0_forms_no_bond(put_bondpy: Put) -> None:
    kind = put_bondpy(Mock())
    assert form_bond(node(), 0.0) is None
    kind.assert_not_called()


class Silent:
    """Stands in for the class of `bondpy`: its calls, and what it creates on its node."""

    def __init__(self, node: Any, topic: str, bond_id: str) -> None:
        self.node = node
        self.calls: list[Any] = [(topic, bond_id)]
        self.publisher = node.create_publisher(object, topic, 1)
        node.bonds.append(self)

    def set_heartbeat_period(self, seconds: float) -> None:
        self.calls.append(('period', seconds))

    def set_heartbeat_timeout(self, seconds: float) -> None:
        self.calls.append(('timeout', seconds))

    def start(self) -> None:
        self.subscription = self.node.create_subscription(object, 'bond', print, 1)
        self.calls.append('start')

    def shutdown(self) -> None:
        self.calls.append('shutdown')


def test_it_has_the_name_of_the_node_and_frees_the_topic(put_bondpy: Put) -> None:
    put_bondpy(Silent)
    eyes = node()
    bond = form_bond(eyes, 0.5)
    assert bond is not None
    [inner] = eyes.bonds
    named, period, (_, timeout), started = inner.calls
    assert (named, period, started) == (('bond', 'eyes'), ('period', 0.5), 'start')
    assert timeout > 3600  # it goes on without its manager
    # An executor of several threads fails where QoS events end.
    for create in (eyes.create_publisher, eyes.create_subscription):
        assert not create.call_args.kwargs['event_callbacks'].use_default_callbacks
    bond.close()
    assert inner.calls[4:] == ['shutdown']
    eyes.destroy_subscription.assert_called_once_with(inner.subscription)
    eyes.destroy_publisher.assert_called_once_with(inner.publisher)


def test_what_cannot_be_told_any_more_does_not_hold_up_the_end(put_bondpy: Put) -> None:
    broken = RuntimeError('context is invalid')
    put_bondpy(Mock()).return_value.shutdown.side_effect = broken
    ended, going_on = form_bond(node(runs=False), 0.5), form_bond(node(), 0.5)
    assert ended is not None and going_on is not None
    ended.close()
    with pytest.raises(RuntimeError, match='context is invalid'):
        going_on.close()


def test_a_bond_that_the_middleware_refuses_is_said(
    put_bondpy: Put, caplog: pytest.LogCaptureFixture
) -> None:
    put_bondpy(Mock(side_effect=RuntimeError('not\nallowed')))
    assert form_bond(node(), 0.25) is None
    assert caplog.messages == ['cannot form a bond with a lifecycle manager: not allowed']

# SPDX-License-Identifier: Apache-2.0
"""Who waits for a node; nodes and answers by stand-ins. The launch files' tests have real ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from lifecycle_msgs.msg import State
import pytest
import rclpy

from multishift_perception.errors import MultishiftError
from multishift_perception.node import await_active
from multishift_perception.node.await_active import wait_until_active

LOST = None


def asked(monkeypatch: pytest.MonkeyPatch, *states: int | None) -> tuple[Any, list[float]]:
    """A node that is told of some states, and how long it waits for each of them."""
    answers = iter(states)
    waits: list[float] = []

    def ask(_: Any) -> Any:
        number = next(answers)
        state = SimpleNamespace(id=number, label=f'state {number}')
        told = None if number is LOST else SimpleNamespace(current_state=state)
        return Mock(result=lambda: told)

    def spin(node: Any, future: Any, timeout_sec: float) -> None:
        waits.append(timeout_sec)

    monkeypatch.setattr(rclpy, 'spin_until_future_complete', spin)
    monkeypatch.setattr(await_active, '_ASK_EVERY_S', 0.0)
    client = Mock(call_async=ask, wait_for_service=lambda _: True)
    return Mock(create_client=lambda *_: client), waits


def test_it_asks_again_where_an_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    configuring, active = State.TRANSITION_STATE_CONFIGURING, State.PRIMARY_STATE_ACTIVE
    node, waits = asked(monkeypatch, LOST, configuring, LOST, LOST, active)
    wait_until_active(node, '/eyes')
    assert len(waits) == 5
    assert max(waits[:2]) < 5 < await_active.PATIENCE_S
    assert waits == sorted(waits)


def test_a_node_that_never_answers_or_stays_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    configuring = State.TRANSITION_STATE_CONFIGURING
    for states, words in ((LOST, 'does not answer within'), (configuring, 'not active')):
        node, waits = asked(monkeypatch, *[states] * 1000)
        now = iter(range(1000))
        monkeypatch.setattr(
            'multishift_perception.node.await_active.time.monotonic', lambda now=now: next(now)
        )
        with pytest.raises(MultishiftError, match=words):
            wait_until_active(node, '/eyes', 90)
        assert all(wait <= 90 - asked_at for asked_at, wait in enumerate(waits, 1))
        monkeypatch.undo()

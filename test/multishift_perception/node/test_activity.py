# SPDX-License-Identifier: Apache-2.0
"""What the worker is said to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import rclpy

from multishift_perception.node.activity import Activity, Stage, Stuck
from multishift_perception.node.session import Session


def test_a_stage_has_a_present_until_it_ends():
    now = [1.0]
    activity = Activity(lambda: now[0])
    with activity.during(Stage.ENGINE) as seconds:
        now[0] = 3.5
        assert activity.present() == (Stage.ENGINE, 2.5)
        assert seconds() == 2.5
    assert activity.present() is None


@pytest.mark.parametrize('stage', Stage)
def test_every_stage_can_be_said_to_be_stuck(stage):
    assert str(Stuck(stage, 3.0, 1.5)).endswith(
        'has not returned for 3.0 s (at most 1.5 s are usual)'
    )


def test_taking_a_frame_is_a_stage_as_the_middleware_may_never_return():
    activity = Activity(lambda: 0.0)
    seen: list[Any] = []
    source = SimpleNamespace(take=lambda: seen.append(activity.present()), is_watched=False)
    session = Session.__new__(Session)
    session._cameras = {'front': SimpleNamespace(input=source)}  # type: ignore[dict-item]
    session._processor = SimpleNamespace(activity=activity)  # type: ignore[assignment]
    session._process(['front'])
    assert seen == [(Stage.WAIT, 0.0)]


@pytest.mark.parametrize('goes_on', [True, False])
def test_the_worker_survives_a_turn_that_fails_and_is_silent_at_the_end(
    monkeypatch, caplog, goes_on
):
    def fail(_):
        raise RuntimeError("the publisher's context is invalid")

    session = Session.__new__(Session)
    monkeypatch.setattr(session, '_take', fail)
    monkeypatch.setattr(rclpy, 'ok', lambda: goes_on)
    session._process(['front', 'left'])
    assert ('a turn of front, left failed' in caplog.text) == goes_on

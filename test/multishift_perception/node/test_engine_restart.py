# SPDX-License-Identifier: Apache-2.0
"""When an engine that goes on failing is loaded anew."""

from __future__ import annotations

import pytest

from multishift_perception.node.engine_restart import EngineRestart


@pytest.fixture
def clock():
    return {'s': 0.0}


@pytest.fixture
def restart(clock):
    return EngineRestart(lambda: clock['s'])


def fail(restart, times=3):
    for _ in range(times):
        restart.fail()


def test_a_fault_between_good_calls_is_no_reason(restart, clock):
    for _ in range(10):
        restart.fail()
        restart.fail()
        restart.succeed()
        clock['s'] += 1
    assert not restart.is_due()


def test_attempts_wait_longer_and_longer_and_end(restart, clock):
    waits = []
    fail(restart)
    while (wait := restart.report().wait_s) is not None:
        assert not restart.is_due()
        waits.append(wait)
        clock['s'] += wait
        assert restart.is_due()
        restart.begin()
        assert restart.report().loading_s == 0.0
        restart.end('no such device')
    assert waits == [1, 2, 4, 8, 16]
    fail(restart, 10)
    report = restart.report()
    assert report.is_given_up
    assert (report.attempts, report.reloads, report.fault) == (5, 0, 'no such device')


def test_what_fails_soon_after_a_reload_was_not_mended(restart, clock):
    fail(restart)
    clock['s'] += 1
    restart.begin()
    restart.end()
    restart.succeed()
    clock['s'] += 30
    restart.succeed()
    fail(restart)
    assert restart.report().wait_s == 2
    assert restart.report().reloads == 1


def test_a_minute_of_good_calls_begins_anew(restart, clock):
    fail(restart)
    clock['s'] += 1
    restart.begin()
    restart.end()
    for _ in range(2):
        restart.succeed()
        clock['s'] += 61
    restart.succeed()
    fail(restart)
    assert restart.report().wait_s == 1

# SPDX-License-Identifier: Apache-2.0
"""Signals that wait until what they would interrupt is whole."""

from __future__ import annotations

import signal
import threading

import pytest

from multishift_perception.process.signals import Stopped, ended_by_signals, waiting_for_block


@pytest.mark.parametrize(
    ('number', 'kind'), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)]
)
def test_signals_wait_for_the_end_of_the_block(
    number: signal.Signals, kind: type[KeyboardInterrupt]
) -> None:
    done: list[str] = []
    with ended_by_signals():
        before = signal.getsignal(number)
        with pytest.raises(kind), waiting_for_block():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append('whole')
        assert done == ['whole']
        assert signal.getsignal(number) is before
        with pytest.raises(kind):
            signal.raise_signal(number)


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with waiting_for_block():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_just_run_the_block() -> None:
    done: list[str] = []

    def work() -> None:
        with waiting_for_block():
            done.append('whole')

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ['whole']

# SPDX-License-Identifier: Apache-2.0
"""What ends a command, and the processes that it started, before its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import ctypes
import os
import signal
import threading
from types import FrameType

# Without a handler they would leave scratch files and processes behind.
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_HEARD = (signal.SIGINT, *_ENDING)
_PR_SET_PDEATHSIG = 1


class Stopped(KeyboardInterrupt):
    """A signal that asks to end: what lets Ctrl-C pass lets it pass too.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        """Remember the signal."""
        super().__init__()
        self.number = number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, unless they are ignored."""
    before = {n: signal.getsignal(n) for n in _ENDING if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


def signal_of(stop: KeyboardInterrupt) -> signal.Signals:
    """Return the signal that an interrupt came of."""
    return signal.Signals(stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def waiting_for_block() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP interrupt this process only when the block has ended.

    Whichever thread the kernel gives the signal to, which blocking it in one would not hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal interrupts it
        return
    before: dict[int, Callable[[int, FrameType | None], object]] = {
        number: handler for number in _HEARD if callable(handler := signal.getsignal(number))
    }
    came: list[int] = []
    ended = False

    def wait(number: int, frame: FrameType | None) -> None:
        if ended:  # this one came while handlers were put back
            before[number](number, frame)
        else:
            came.append(number)

    try:
        for own in before:
            signal.signal(own, wait)
        yield
    finally:
        ended = True
        for own, handler in before.items():
            signal.signal(own, handler)
    for first in came[:1]:
        before[first](first, None)


@contextmanager
def deaf_to_signals() -> Iterator[None]:
    """Let processes that the block starts hear no signal to end until they `obey_parent`.

    One that this process gets waits until the block has ended.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def obey_parent() -> None:
    """Leave what a terminal tells all its processes to the one that started this one.

    SIGTERM ends this process in silence, and as if all were well: the parent has heard it too, or
    sent it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the one that started it ends, in whatever way.

    Args:
        parent: the process that started it; should it be gone already, this one ends now.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)

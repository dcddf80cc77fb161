# SPDX-License-Identifier: Apache-2.0
"""Frames that have come: noticed and counted as they come, and taken only by who needs one."""

from __future__ import annotations

from collections.abc import Callable
import os
import select
from threading import Lock, Thread
from typing import Any

from rclpy.callback_groups import CallbackGroup

from multishift_perception.node import rcl


class Untaken(CallbackGroup):
    """Subscriptions whose messages no executor takes; an events executor would not ask."""

    def can_execute(self, entity: Any) -> bool:
        """Say so."""
        return False


class Arrivals:
    """A thread that hears of each frame that the middleware has received."""

    def __init__(self) -> None:
        """Start the thread."""
        self._counters: dict[int, ArrivalCounter] = {}
        self._poll = select.epoll()
        self._end = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._end, select.EPOLLIN)
        self._thread = Thread(target=self._run, name='arrivals', daemon=True)
        self._thread.start()

    def count(self, subscription: Any, on_arrivals: Callable[[int], None]) -> ArrivalCounter:
        """Have the messages of a subscription counted, one in the group `Untaken`.

        Args:
            subscription: the subscription.
            on_arrivals: called with how many have come.
        """
        counter = ArrivalCounter(subscription, on_arrivals)
        self._counters[counter.descriptor] = counter
        self._poll.register(counter.descriptor, select.EPOLLIN)
        return counter

    def forget(self, counter: ArrivalCounter) -> None:
        """Count no longer."""
        self._poll.unregister(counter.descriptor)
        del self._counters[counter.descriptor]
        counter.close()

    def close(self) -> None:
        """End the thread; every counter has been forgotten."""
        os.eventfd_write(self._end, 1)
        self._thread.join()
        self._poll.close()
        os.close(self._end)

    def _run(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._end:
                    return
                if counter := self._counters.get(descriptor):
                    counter.read()


class ArrivalCounter:
    """Counts the messages of one subscription."""

    def __init__(self, subscription: Any, on_arrivals: Callable[[int], None]) -> None:
        """Use ``Arrivals.count``."""
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._subscription = subscription
        self._on_arrivals = on_arrivals
        self._lock = Lock()
        self._is_open = True
        try:
            rcl.count_messages(subscription, self.descriptor)
        except BaseException:
            os.close(self.descriptor)
            raise

    def read(self) -> None:
        """Report what has come and was not reported yet."""
        # Who comes second waits until the first has reported.
        with self._lock:
            if not self._is_open:
                return
            try:
                count = os.eventfd_read(self.descriptor)
            except BlockingIOError:
                return
            self._on_arrivals(count)

    def close(self) -> None:
        """Count no longer."""
        with self._lock:
            # First: the descriptor's number may be another file's once it is closed.
            rcl.count_messages(self._subscription, None)
            self._is_open = False
            os.close(self.descriptor)

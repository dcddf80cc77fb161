# SPDX-License-Identifier: Apache-2.0
"""Work of one thread beside that of another, in order and with little of it waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
import queue
import threading
from typing import Any, TypeVar

T = TypeVar('T')

_END = object()


def read_ahead(items: Iterable[T], count: int) -> Generator[T, None, None]:
    """Yield items that a thread of its own gets, at most so many before they are asked for.

    What getting one raises is raised here, in its place. The thread ends with this generator.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(count)
    ended = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> bool:
        while not ended.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # of whatever kind, it is for who asks
            put(_END, error)
        else:
            put(_END)

    thread = threading.Thread(target=read, name='read ahead', daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        ended.set()
        thread.join()


class Follower:
    """Calls functions in a thread of its own, one after the other."""

    def __init__(self, count: int) -> None:
        """Let at most so many calls wait."""
        self._count = count
        self._pending: deque[Future[object]] = deque()
        self._pool = ThreadPoolExecutor(1, 'follower')

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have a function called; wait while too many are.

        Raises:
            Exception: what an earlier call raised.
        """
        while len(self._pending) >= self._count:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(function, *arguments))

    def finish(self) -> None:
        """Wait until all calls are done.

        Raises:
            Exception: what one of them raised.
        """
        while self._pending:
            self._pending.popleft().result()

    def close(self) -> None:
        """End the thread; calls that wait are not done."""
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def following(count: int) -> Iterator[Follower]:
    """Yield a follower whose calls are done when the block succeeds."""
    follower = Follower(count)
    try:
        yield follower
        follower.finish()
    finally:
        follower.close()

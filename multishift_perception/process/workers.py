# SPDX-License-Identifier: Apache-2.0
"""Processes that do part of a command's work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
import multiprocessing
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from multishift_perception.process.signals import deaf_to_signals, end_with_parent, obey_parent


class WorkerProcess(SpawnProcess):
    """Neither hears Ctrl-C, which is for the process that started it, nor outlives that one.

    Spawned, not forked: a fork of a process whose libraries run threads can hang for ever.
    """

    def start(self) -> None:
        """Start it."""
        # Started within, it would let this process hear signals again.
        resource_tracker.ensure_running()
        with deaf_to_signals():
            super().start()

    def run(self) -> None:
        """Work."""
        parent = multiprocessing.parent_process()
        assert parent is not None and parent.pid is not None
        end_with_parent(parent.pid)
        obey_parent()
        super().run()


class _Context(SpawnContext):
    Process = WorkerProcess


@contextmanager
def worker_pool(
    count: int | None, initializer: Callable[..., object], arguments: tuple[Any, ...]
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes, which end with the block: what waits is not begun any more.

    Args:
        count: how many processes at most; None for one per core.
        initializer: what each calls first.
        arguments: of the initializer.
    """
    pool = ProcessPoolExecutor(count, _Context(), initializer, arguments)
    try:
        yield pool
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)

# SPDX-License-Identifier: Apache-2.0
"""Sees that a run of the tests ends, and tells why: a plugin of pytest, see ``conftest.py``.

pytest's own limit of a test (``faulthandler_timeout``) ends a process and leaves what that has
started. Of several processes (pytest-xdist), the one that prints therefore limits the tests, a
little earlier, and ends the hung process with all that is below it. It shares out the cores, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
import os
import signal
from threading import Thread
from time import monotonic, sleep
from typing import Any

import psutil
import pytest

# In the environment of whatever a run starts: the process id of what began it.
_RUN = 'MULTISHIFT_TEST_RUN'
_EARLIER_S = 30.0
_GRACE_S = 20.0


class Overseer:
    """Oversees a run, in the process that prints."""

    def __init__(self, config: pytest.Config) -> None:
        self._terminal: Any = config.pluginmanager.getplugin('terminalreporter')
        self._limit_s = float(config.getini('faulthandler_timeout')) - _EARLIER_S
        os.environ[_RUN] = str(os.getpid())
        os.environ['PYTHONFAULTHANDLER'] = '1'  # what is aborted says where it was
        if processes := config.getoption('numprocesses', None):
            # Libraries start a thread per core in each process, and threads that have no core spin
            # while they wait for each other: networks of tests took twice the time of all cores.
            share = max(1, len(os.sched_getaffinity(0)) // processes)
            os.environ.setdefault('OMP_NUM_THREADS', str(share))

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print a fault when it happens: a run that is cut off never comes to its summary."""
        if report.failed:
            self._terminal.write_line(f'\n{report.nodeid} failed ({report.when}):')
            self._terminal.write_line(report.longreprtext)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Hand out files as pytest-xdist does, and watch what becomes of them."""
        if config.getoption('dist') != 'loadfile':
            return None
        from xdist.scheduler import LoadFileScheduling

        class Watched(LoadFileScheduling):  # type: ignore[misc]
            """Knows since when each process runs its test, and gives none to a second one."""

            since: dict[Any, float] = {}

            def add_node(self, node: Any) -> None:
                super().add_node(node)
                self.since[node] = monotonic()  # it imports the tests

            def add_node_collection(self, node: Any, collection: Any) -> None:
                super().add_node_collection(node, collection)
                self.since.pop(node, None)

            def _assign_work_unit(self, node: Any) -> None:
                if not self.workqueue:
                    node.shutdown()
                    return
                super()._assign_work_unit(node)
                self.since.setdefault(node, monotonic())
                # A process begins a test once it has the next one, or knows that there is none.
                if self._pending_of(self.assigned_work[node]) < 2:
                    self._reschedule(node)

            def mark_test_complete(self, node: Any, *args: Any) -> None:
                super().mark_test_complete(node, *args)
                self.since[node] = monotonic()
                if not self._pending_of(self.assigned_work[node]):
                    del self.since[node]

            def remove_node(self, node: Any) -> str | None:
                self.since.pop(node, None)
                for tests in self.assigned_work[node].values():
                    for test, is_done in tests.items():
                        if not is_done:
                            tests[test] = True  # else it would end the next process, too
                            super().remove_node(node)
                            return str(test)
                return super().remove_node(node)

        scheduler = Watched(config, log)
        Thread(target=self._watch, args=(scheduler.since,), daemon=True).start()
        return scheduler

    def _watch(self, since: dict[Any, float]) -> None:
        while True:
            sleep(1)
            for node, began in list(since.items()):
                if monotonic() - began > self._limit_s:
                    since.pop(node, None)
                    end(node.gateway._rinfo().pid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """End what tests have left running: it would keep open what the run writes to."""
        left = list(self._left())
        psutil.wait_procs(left, _GRACE_S)  # one that is just ending is no fault
        for process in self._left():
            with suppress(psutil.Error):
                words = ' '.join(process.cmdline())
                test = process.environ().get('PYTEST_CURRENT_TEST', 'a test')
                process.kill()
                self._terminal.write_line(f'\n{test} left running: {words}')
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _left(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it is gone, or another user's
                if process.pid != os.getpid() and process.environ().get(_RUN) == str(os.getpid()):
                    yield process


def end(pid: int) -> None:
    """End a process and all below it; the threads of each say where they are."""
    with suppress(psutil.Error):
        hung = psutil.Process(pid)
        family = [hung, *hung.children(recursive=True)]
        for process in family:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGABRT)
        psutil.wait_procs(family, 3)
        for process in family:
            with suppress(psutil.Error):
                process.kill()

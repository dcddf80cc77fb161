# SPDX-License-Identifier: Apache-2.0
"""The demonstration's processes: started together, watched, and all ended whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import errno
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from multishift_perception.disk import full_disk
from multishift_perception.errors import MultishiftError

_POLITE_S = 10.0
_POLL_S = 0.1
_ATTACHED = 'multishift_perception.demo.attached'
_TAIL_LINES = 8


class Process:
    """A Python module that runs as a process of its own."""

    def __init__(
        self, module: str, arguments: Sequence[str], *, logs: Path, environment: Mapping[str, str]
    ) -> None:
        """Start it.

        Args:
            module: dotted name of the module to run.
            arguments: its command line.
            logs: folder for ``<name>.log`` (errors) and ``<name>.out``.
            environment: variables to set over our own.
        """
        self.name = module.split('.')[-1] if not module.endswith('.main') else 'node'
        self.log = logs / f'{self.name}.log'
        self.out = logs / f'{self.name}.out'
        with self.log.open('wb') as errors, self.out.open('wb') as output:
            self._child = subprocess.Popen(
                [sys.executable, '-m', _ATTACHED, str(os.getpid()), module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, **environment},
                # A Ctrl-C is for us: we end the processes in order.
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._child.poll()

    def interrupt(self) -> int:
        """Ask it to end as Ctrl-C does, insist after a while, and return its exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._child.poll() is None:
                self._child.send_signal(number)
            try:
                return self._child.wait(_POLITE_S)
            except subprocess.TimeoutExpired:
                continue
        return self._child.wait()

    def tail(self) -> str:
        """Return the last lines of its log."""
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-_TAIL_LINES:])


class Processes:
    """Processes that live and end together; use as a context manager."""

    def __init__(self, *, logs: Path, environment: Mapping[str, str]) -> None:
        """Prepare; see ``Process`` for the arguments."""
        self._logs = logs
        self._environment = environment
        self._running: list[Process] = []

    def __enter__(self) -> Self:
        """Begin without any."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what still runs, the last started first."""
        for process in reversed(self._running):
            process.interrupt()

    def start(self, module: str, *arguments: str) -> Process:
        """Start a module as a process."""
        process = Process(module, arguments, logs=self._logs, environment=self._environment)
        self._running.append(process)
        return process

    def stop(self, process: Process) -> None:
        """End a process as planned.

        Raises:
            MultishiftError: it did not end well.
        """
        if process.interrupt() != 0:
            raise self._failure(process)
        self._running.remove(process)

    def wait(
        self, process: Process, *, patience_s: float, tick: Callable[[], None] = lambda: None
    ) -> None:
        """Return when ``process`` has ended well; call ``tick`` meanwhile.

        Raises:
            MultishiftError: it ended badly, another one ended before it, or it takes longer than
                ``patience_s``.
        """
        deadline = time.monotonic() + patience_s
        while process.exit_code is None:
            for other in self._running:
                if other is not process and other.exit_code is not None:
                    raise self._failure(other)
            if time.monotonic() > deadline:
                raise MultishiftError(
                    f'the {process.name} is not done after {patience_s:.0f} s; see {process.log}'
                )
            tick()
            time.sleep(_POLL_S)
        if process.exit_code != 0:
            raise self._failure(process)
        self._running.remove(process)

    def _failure(self, ended: Process) -> MultishiftError:
        """Return the error that tells which process ended; show what all of them said last."""
        if ended.exit_code == errno.ENOSPC:  # what it said of that found no room either
            return full_disk(ended.log.parent)
        # The cause is often in the log of another process than the one that gave up.
        for process in self._running:
            if said := process.tail():
                print(f'--- {process.log}\n{said}', file=sys.stderr)
        return MultishiftError(
            f'the {ended.name} ended with exit code {ended.exit_code}; see {ended.log}'
        )

# SPDX-License-Identifier: Apache-2.0
"""Processes around a node that is measured: to run them, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import signal
import subprocess
import time
from typing import Any


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, whose output nobody wants, and end it by Ctrl-C."""
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far, all its threads together."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid() makes it

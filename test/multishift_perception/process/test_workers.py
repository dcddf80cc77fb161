# SPDX-License-Identifier: Apache-2.0
"""Pools of processes: quiet when they are stopped, and gone with the process that has them."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from multishift_perception.process.workers import worker_pool

# Starts two workers that take long, says which, and waits for them.
PARENT = """
import multiprocessing, sys, time
from multishift_perception.process.workers import worker_pool
if __name__ == '__main__':
    try:
        with worker_pool(2, dict, ()) as pool:
            slow = [pool.submit(time.sleep, 600) for _ in range(5)]
            print(*(p.pid for p in multiprocessing.active_children()), flush=True)
            if sys.argv[1] == 'running':
                pool.submit(time.sleep, 0)
                while not any(job.running() for job in slow):
                    time.sleep(0.01)
                time.sleep(0.2)
            print('now', flush=True)
            while not slow[0].done():  # Python itself loses a signal as it begins to wait
                time.sleep(0.01)
    except KeyboardInterrupt:
        sys.exit('stopped')
"""


@pytest.mark.parametrize('state', ['starting', 'running'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_stopped(number: signal.Signals, state: str, tmp_path: Path) -> None:
    (tmp_path / 'parent.py').write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / 'parent.py'), state],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        children = process.stdout.readline().split()
        assert len(children) == 2
        assert process.stdout.readline() == 'now\n'
        # Ctrl-C goes to all of them, a kill to the one.
        if number == signal.SIGINT:
            subprocess.run(['kill', '-INT', '--', f'-{process.pid}'], check=True)
        else:
            process.kill()
        _, errors = process.communicate()
    assert 'Traceback' not in errors
    if number == signal.SIGINT:
        assert errors == 'stopped\n'
    while any(runs(int(child)) for child in children):
        time.sleep(0.01)


def runs(process: int) -> bool:
    """Say so; one that has ended may stay in the list, where nobody asks what became of it."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_waits_is_not_begun_after_a_fault(tmp_path: Path) -> None:
    gate = tmp_path / 'gate'
    os.mkfifo(gate)

    def open_gate() -> None:
        is_cancelled.wait(20)  # however late the fault is heard of
        opened.append(os.open(gate, os.O_RDWR))

    is_cancelled = threading.Event()
    opened: list[int] = []
    with pytest.raises(RuntimeError), worker_pool(1, print, ()) as pool:
        # Whoever opens the gate to read waits for one who writes.
        jobs = [pool.submit(os.open, gate, os.O_RDONLY) for _ in range(50)]
        jobs[-1].add_done_callback(lambda _: is_cancelled.set())
        opener = threading.Thread(target=open_gate)
        opener.start()
        raise RuntimeError
    opener.join()
    os.close(*opened)
    assert sum(job.cancelled() for job in jobs) > 40

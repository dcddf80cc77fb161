# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from multishift_perception.demo.processes import Process, Processes
from multishift_perception.disk import FullDiskError
from multishift_perception.errors import MultishiftError
from multishift_perception.process.signals import Stopped, ended_by_signals

# Modules of the standard library that a process can run: one that ends, one that stays.
ENDS = ('timeit', '-n', '1', 'pass')
FAILS = ('no_such_module_anywhere',)


@pytest.fixture
def stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / 'stays.py').write_text(
        'import os, time\n'
        # Said where an interrupt is expected: it may come at once.
        "try:\n    print(os.environ['DEMO'], flush=True)\n    time.sleep(60)\n"
        'except KeyboardInterrupt:\n    pass\n'
    )
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    return ('stays',)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(logs=tmp_path, environment={'DEMO': 'on'}) as group:
        yield group


def wait_for_output(process: Process) -> str:
    for _ in range(200):
        if said := process.out.read_text():
            return said
        try:
            process._child.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError('no output')


def test_waits_for_the_end_and_ticks(processes: Processes, stays: tuple[str, ...]) -> None:
    other = processes.start(*stays)
    ticks: list[int] = []
    processes.wait(processes.start(*ENDS), patience_s=30, tick=lambda: ticks.append(1))
    assert ticks
    assert other.exit_code is None


def test_stops_a_process_that_stays(processes: Processes, stays: tuple[str, ...]) -> None:
    process = processes.start(*stays)
    assert wait_for_output(process) == 'on\n'
    processes.stop(process)
    assert process.exit_code == 0


def test_ends_everything_after_an_error(tmp_path: Path, stays: tuple[str, ...]) -> None:
    with pytest.raises(RuntimeError):
        with Processes(logs=tmp_path, environment={'DEMO': 'on'}) as group:
            process = group.start(*stays)
            wait_for_output(process)
            raise RuntimeError
    assert process.exit_code == 0


def test_a_signal_to_end_ends_everything(tmp_path: Path, stays: tuple[str, ...]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as raised:
        with ended_by_signals(), Processes(logs=tmp_path, environment={'DEMO': 'on'}) as group:
            process = group.start(*stays)
            wait_for_output(process)
            signal.raise_signal(signal.SIGTERM)
    assert raised.value.number == signal.SIGTERM
    assert process.exit_code == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_death_ends_the_wait_and_shows_the_log(
    processes: Processes, stays: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    processes.start(*FAILS)
    awaited = processes.start(*stays)
    with pytest.raises(MultishiftError, match='the no_such_module_anywhere ended with exit code'):
        processes.wait(awaited, patience_s=30)
    assert 'No module named no_such_module_anywhere' in capsys.readouterr().err


def test_patience_ends(processes: Processes, stays: tuple[str, ...]) -> None:
    with pytest.raises(MultishiftError, match='the stays is not done after 0 s'):
        processes.wait(processes.start(*stays), patience_s=0)


# Starts a process that stays, says which, and waits; or ends before the other one is attached.
STARTER = """
import os, sys
from pathlib import Path
from multishift_perception.demo.processes import Processes
with Processes(logs=Path(sys.argv[1]), environment={'DEMO': 'on'}) as group:
    process = group.start('stays')
    print(process._child.pid, flush=True)
    if sys.argv[2] == 'waits':
        sys.stdin.read()
    os._exit(1)
"""


@pytest.mark.parametrize('way', ['waits', 'ends at once'])
def test_nothing_outlives_a_starter_that_is_killed(
    way: str, tmp_path: Path, stays: tuple[str, ...]
) -> None:
    with subprocess.Popen(
        [sys.executable, '-c', STARTER, str(tmp_path), way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        child = int(starter.stdout.readline())
        while way == 'waits' and not (tmp_path / 'stays.out').read_text():
            time.sleep(0.01)
        starter.kill()
    while runs(child):
        time.sleep(0.01)


def runs(process: int) -> bool:
    try:
        return ') Z ' not in Path(f'/proc/{process}/stat').read_text()
    except FileNotFoundError:
        return False


def test_a_full_disk_is_one_line(
    processes: Processes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / 'filler.py').write_text('import errno, sys; sys.exit(errno.ENOSPC)')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    with pytest.raises(FullDiskError, match=f'{tmp_path} cannot be written: no room on the disk'):
        processes.wait(processes.start('filler'), patience_s=30)
    assert capsys.readouterr().err == ''

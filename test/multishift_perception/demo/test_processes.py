from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import signal
import subprocess

import pytest

from multishift_perception.demo.processes import Process, Processes
from multishift_perception.errors import MultishiftError

# Modules of the standard library that a process can run: one that ends, one that stays.
ENDS = ('timeit', '-n', '1', 'pass')
FAILS = ('no_such_module_anywhere',)


@pytest.fixture
def stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / 'stays.py').write_text(
        'import os, time\n'
        "print(os.environ['DEMO'], flush=True)\n"
        'try:\n    time.sleep(60)\n'
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
    with pytest.raises(SystemExit) as raised:
        with Processes(logs=tmp_path, environment={'DEMO': 'on'}) as group:
            process = group.start(*stays)
            wait_for_output(process)
            signal.raise_signal(signal.SIGTERM)
    assert raised.value.code == 128 + signal.SIGTERM
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

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
from pathlib import Path
import pty
import re
import subprocess
import sys

import pytest

from multishift_perception import progress
from multishift_perception.progress import bar, track

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the bars see, in seconds."""
    now = [0.0]
    monkeypatch.setattr('multishift_perception.progress.time.monotonic', lambda: now[0])
    return now


def test_a_log_gets_a_line_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter(range(20)), 'render', 20, unit='frame')) == list(range(20))
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r'render: 100%, 20 of 20 \[\S+<00:00, +\S+frame/s\]', line)


def test_a_log_gets_a_line_every_half_minute(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with bar('train', 100, unit='sample', leave=False) as shown:
        for _ in range(100):
            clock[0] += 1
            shown.update()
            shown.set_postfix(loss='0.5')  # which asks to be shown at once
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(' [')[0] for line in lines] == [
        f'train: {done}%, {done} of 100' for done in (30, 60, 90)
    ]
    assert 'loss=0.5' in lines[1]


def test_what_does_not_know_its_length(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track((c for c in 'abc'), 'read', unit='letter')) == ['a', 'b', 'c']
    assert '3 of ?' in capsys.readouterr().err


@pytest.mark.parametrize('how', ['quiet', 'disabled', 'gone'])
def test_nothing_is_shown(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    progress.set_quiet(how == 'quiet')
    try:
        shown = track(range(3), 'x', unit='y', disable=how == 'disabled', leave=how != 'gone')
        assert list(shown) == [0, 1, 2]
    finally:
        progress.set_quiet(False)
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(('columns', 'width'), [(60, 60), (250, 100)])
def test_a_bar_fits_the_terminal_and_is_never_wide(columns: int, width: int) -> None:
    script = (
        'import logging\n'
        'from multishift_perception.cli.verbosity import set_up_logging\n'
        'from multishift_perception.progress import bar\n'
        'set_up_logging()\n'
        'with bar("work", 9, unit="step") as shown:\n'
        '    shown.set_postfix(a="1" * 20)\n'
        '    logging.getLogger("multishift_perception.x").info("a word")\n'
        '    shown.update(9)\n'
    )
    ours, theirs = pty.openpty()
    subprocess.run(['stty', 'cols', str(columns), 'rows', '24'], stdin=theirs, check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ('COLUMNS', 'LINES')}
    subprocess.run([sys.executable, '-c', script], stderr=theirs, check=True, env=environment)
    os.close(theirs)
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    drawn = [part for part in re.split(r'[\r\n]+|\x1b\[A', said) if 'work' in part]
    assert '100%' in drawn[-1]
    assert {len(part) for part in drawn} <= {width - 1, width}
    assert re.search(r'[\r\n]a word\r?\n', said)  # on a line of its own


def test_records_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    handler = progress.Handler()
    handler.emit(logging.makeLogRecord({'msg': 'disk %s', 'args': ('full',)}))
    assert capsys.readouterr().err == 'disk full\n'


def test_in_a_log_records_have_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    handler = progress.Handler()
    for _ in track([0], 'work', unit='piece'):
        handler.emit(logging.makeLogRecord({'msg': 'one is left out'}))
    assert re.fullmatch(r'one is left out\nwork: 100%[^\r\n]*\n', capsys.readouterr().err)


def test_every_bar_is_ours() -> None:
    modules = [*ROOT.glob('multishift_perception/**/*.py'), *ROOT.glob('training/**/*.py')]
    users = {p.name for p in modules if re.search(r'(from|import) tqdm', p.read_text())}
    assert users == {'progress.py'}


def test_bar_whose_making_is_cut_short_is_closed_in_silence() -> None:
    progress.Bar.__new__(progress.Bar).close()
    progress.close_bars()

# SPDX-License-Identifier: Apache-2.0
"""What stops commands: signals and full disks; each in one line, and nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from click.testing import CliRunner
import numpy as np
from PIL import Image
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from multishift_perception.cli.main import multishift
from multishift_perception.errors import MultishiftError

pytestmark = pytest.mark.slow

SmallDisk = Callable[..., 'subprocess.CompletedProcess[str]']

SMALL = ('--height', '96', '--width', '160')


def last_line(errors: str) -> str:
    """Return what a command said in the end, on a line of its own."""
    assert 'Traceback' not in errors
    # Progress bars go back to the beginning of their line.
    *_, line = errors.replace('\r', '\n').splitlines()
    return line


def stopped(number: int, *arguments: object, when: Callable[[], bool]) -> tuple[int, str]:
    """Signal a command with all of its processes, as a terminal does.

    Returns:
        Exit code, and the last line that it said.
    """
    with subprocess.Popen(
        [sys.executable, '-m', 'multishift_perception.cli.main', *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not when():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, number)
        _, errors = process.communicate()
    return process.returncode, last_line(errors)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / 'drive.mcap'
    drawn = lambda: bool(list(tmp_path.glob('.drive*/bag/*')))  # noqa: E731
    code, line = stopped(number, 'sample-drive', out, '--seconds', 3600, when=drawn)
    name = 'Ctrl-C' if number == signal.SIGINT else number.name
    assert line == (
        f'multishift: sample-drive was stopped by {name}: nothing is half-written, and it begins '
        'anew when it is started again'
    )
    assert code == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_sample_drive_on_a_full_disk(small_disk: SmallDisk) -> None:
    done = small_disk(100, 'sample-drive', 'drive.mcap', '--seconds', 3, *SMALL)
    assert done.returncode == 1
    assert last_line(done.stderr) == (
        'multishift: drive.mcap cannot be written: no room on the disk; free some and start again'
    )
    assert done.stdout == ''


def test_make_bag_on_a_disk_that_is_full_before(small_disk: SmallDisk, tmp_path: Path) -> None:
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (90, 160, 3), np.uint8)
        (tmp_path / 'images').mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f'images/{i}.png')
    # No room for the bag; no room for a single file.
    for kilobytes in (60, 4):
        done = small_disk(kilobytes, 'make-bag', tmp_path / 'images', 'new.mcap')
        assert done.returncode == 1
        assert 'new.mcap cannot be written: no room on the disk' in last_line(done.stderr)
        assert done.stdout == ''


def test_bags_are_replaced_by_force_only(tmp_path: Path) -> None:
    bag = tmp_path / 'drive.mcap'
    words = ['sample-drive', str(bag), '--seconds', '0.1', *SMALL]
    CliRunner().invoke(multishift, words, catch_exceptions=False)
    first = bag.read_bytes()
    with pytest.raises(MultishiftError, match='drive.mcap exists: give --force'):
        CliRunner().invoke(multishift, [*words, '--seed', '9'], catch_exceptions=False)
    assert bag.read_bytes() == first
    CliRunner().invoke(multishift, [*words, '--seed', '9', '--force'], catch_exceptions=False)
    assert bag.read_bytes() != first
    images = tmp_path / 'images'
    images.mkdir()
    Image.new('RGB', (16, 16)).save(images / 'a.png')
    words = ['make-bag', str(images), str(bag)]
    with pytest.raises(MultishiftError, match='drive.mcap exists: give --force'):
        CliRunner().invoke(multishift, words, catch_exceptions=False)
    (tmp_path / 'notes.mcap').write_text('notes')
    words = ['make-bag', str(images), str(tmp_path / 'notes.mcap'), '--force']
    with pytest.raises(MultishiftError, match='only a bag that was made here is replaced'):
        CliRunner().invoke(multishift, words, catch_exceptions=False)
    assert (tmp_path / 'notes.mcap').read_text() == 'notes'


def test_recordings_are_never_replaced(tmp_path: Path) -> None:
    recording = tmp_path / 'recording'
    with Writer(recording, version=9, storage_plugin=StoragePlugin.MCAP):
        pass
    file = recording / 'recording.mcap'
    before = file.read_bytes()
    words = ['sample-drive', str(file), '--seconds', '0.1', *SMALL, '--force']
    with pytest.raises(MultishiftError, match='only a bag that was made here is replaced'):
        CliRunner().invoke(multishift, words, catch_exceptions=False)
    assert file.read_bytes() == before

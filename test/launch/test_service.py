# SPDX-License-Identifier: Apache-2.0
"""The systemd unit: what it starts, and that systemd understands it."""

from __future__ import annotations

from configparser import RawConfigParser
import os
from pathlib import Path
import shlex
import shutil
import subprocess

import pytest

FOLDER = Path(__file__).parents[2] / 'config/systemd'
UNIT = FOLDER / 'multishift_perception@.service'
# What closes the devices of a GPU, removes shared memory, or forbids to compile at run time.
BREAKING = {'DynamicUser', 'MemoryDenyWriteExecute', 'PrivateDevices', 'PrivateNetwork'}
BREAKING |= {'ProtectClock', 'RemoveIPC'}


def unit() -> dict[str, list[str]]:
    """Return the values of every key; sections do not repeat each other's keys."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        key, sign, value = line.partition('=')
        if sign and not line.startswith('#'):
            found.setdefault(key, []).append(value)
    return found


def settings() -> dict[str, str]:
    """Return the shipped settings, read as systemd does."""
    parser = RawConfigParser(delimiters=('=',), comment_prefixes=('#',))
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string('[settings]\n' + (FOLDER / 'cameras.env').read_text())
    return dict(parser['settings'])


def run(command: str, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the unit as systemd would, with programs that say how they were called."""
    for name in ('ros2', 'python3'):
        (folder / name).write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$SOURCED" "$@"\n')
        (folder / name).chmod(0o755)
    (folder / 'setup.bash').write_text('SOURCED=sourced; export SOURCED\n')
    environment = {
        **settings(),
        'PATH': os.pathsep.join((str(folder), '/usr/bin', '/bin')),
        'ROS_SETUP': str(folder / 'setup.bash'),
        **changes,
    }
    words = [word.replace('$$', '$') for word in shlex.split(command)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def test_it_launches_what_the_settings_say(tmp_path: Path) -> None:
    [command] = unit()['ExecStart']
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *('ros2', 'sourced', 'launch', 'multishift_perception', 'perception.launch.py'),
        'camera_names:=front,left',
        'params_file:=/etc/multishift_perception/perception.yaml',
    ]


def test_it_has_started_once_the_node_is_active(tmp_path: Path) -> None:
    [command] = unit()['ExecStartPost']
    module = 'multishift_perception.node.await_active'
    assert run(command, tmp_path).stdout.split() == [
        *('python3', 'sourced', '-m', module, '/multishift_perception'),
    ]
    nothing = run(command, tmp_path, NODE='')
    assert (nothing.returncode, nothing.stdout) == (0, '')


def test_a_setup_file_that_is_missing_fails(tmp_path: Path) -> None:
    [command] = unit()['ExecStart']
    assert run(command, tmp_path, ROS_SETUP=str(tmp_path / 'missing')).returncode != 0


def test_no_hardening_closes_shared_memory_or_the_gpu() -> None:
    assert not BREAKING & unit().keys()
    assert unit()['RestrictAddressFamilies'] == ['AF_UNIX AF_INET AF_INET6 AF_NETLINK']
    assert not {'DevicePolicy', 'DeviceAllow', 'WatchdogSec'} & unit().keys()


def test_systemd_understands_it(tmp_path: Path) -> None:
    program = shutil.which('systemd-analyze')
    if program is None:
        pytest.skip('needs systemd-analyze')
    copy = tmp_path / UNIT.name.replace('@', '@front')
    shutil.copy(UNIT, copy)
    done = subprocess.run(
        [program, 'verify', '--man=no', str(copy)], capture_output=True, text=True, check=False
    )
    # On keys that it does not know it warns alone.
    assert (done.returncode, done.stderr) == (0, '')

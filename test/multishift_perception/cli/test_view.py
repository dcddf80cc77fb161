# SPDX-License-Identifier: Apache-2.0
"""`multishift view` as its own process: what it prints, how it ends, what it refuses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

COMMAND = [sys.executable, '-m', 'multishift_perception.cli.main', 'view']


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp('view') / 'photo.png'
    cv2.imwrite(str(path), np.full((64, 96, 3), 255, np.uint8))
    return path


def refusal(*arguments, missing=''):
    """The line that is said; ``missing`` cannot be imported."""
    script = (
        f'import sys; sys.modules[{missing!r}] = None\n'
        'from multishift_perception.cli.main import main\n'
        'main()\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script, 'view', *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode in (1, 2)
    assert 'Traceback' not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_code_0_while_somebody_looks(photo, tiny_bundle, number):
    words = [photo, '--engine', tiny_bundle, '--backend', 'openvino', '--port', '0']
    with subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().split()[0]
        assert url.startswith('http://127.0.0.1:')
        with urlopen(f'{url}cameras/photo/mask.mjpg', timeout=20) as stream:
            assert stream.read(200).count(b'\xff\xd8') == 1  # a JPEG begins
            process.send_signal(number)
            assert process.wait(20) == 0
        assert 'Traceback' not in process.stderr.read()


@pytest.mark.slow
def test_other_addresses_get_a_token(photo, tiny_bundle):
    words = [photo, '--engine', tiny_bundle, '--port', '0', '--host', '0.0.0.0']
    with subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().split()[0]
        assert url.startswith(f'http://{socket.gethostname()}:')
        token = url.partition('/?token=')[2]
        assert len(token) == 32
        port = url.rpartition(':')[2].partition('/')[0]
        with urlopen(f'http://127.0.0.1:{port}/metrics?token={token}', timeout=20) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.slow
def test_a_port_in_use_is_one_line(photo, tiny_bundle):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal(photo, '--engine', tiny_bundle, '--port', port)
    assert line.startswith(f'multishift: port {port} of 127.0.0.1 is in use: ')
    assert '--port' in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([], 'give a SOURCE, or --ros for a running node'),
        (['x.mp4', '--ros'], 'give a SOURCE, or --ros for a running node'),
        (['--ros', '--threshold', '0.5'], '--threshold is for a SOURCE'),
        (['x.mp4', '--node', 'car'], '--node is for --ros'),
    ],
)
def test_what_does_not_go_together_is_said(arguments, words):
    assert words in refusal(*arguments)


@pytest.mark.slow
def test_without_its_library_it_says_which_extra(photo):
    line = refusal(photo, missing='aiohttp')
    assert '`view` needs aiohttp, which is not installed' in line
    assert "`pip install '.[view]'` in the checkout" in line


@pytest.mark.slow
def test_without_ros_it_says_what_to_source():
    line = refusal('--ros', missing='rclpy')
    assert line.startswith('multishift: --ros needs ROS 2, which does not load (')
    assert os.linesep not in line

# SPDX-License-Identifier: Apache-2.0
"""`multishift view`: what it prints, how it ends, what it refuses."""

from __future__ import annotations

from contextlib import contextmanager
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

from click.testing import CliRunner
import cv2
import numpy as np
import pytest

from multishift_perception.cli.view import command
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError

COMMAND = [sys.executable, '-m', 'multishift_perception.cli.main', 'view', '--port', '0']


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp('view') / 'photo.png'
    cv2.imwrite(str(path), np.full((64, 96, 3), 255, np.uint8))
    return path


@contextmanager
def running(*arguments, ended_by):
    """The command as a process of its own, and the URL that it prints; it ends with code 0."""
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process.stdout.readline().split()[0]
            process.send_signal(ended_by)
            assert process.wait(20) == 0
            assert 'Traceback' not in process.stderr.read()
        finally:
            process.kill()


@pytest.mark.slow
def test_ctrl_c_ends_it_with_code_0_while_somebody_looks(photo, tiny_bundle):
    words = photo, '--engine', tiny_bundle, '--backend', 'openvino'
    with running(*words, ended_by=signal.SIGINT) as url:
        assert url.startswith('http://127.0.0.1:')
        stream = urlopen(f'{url}cameras/photo/mask.mjpg', timeout=20)
        assert stream.read(200).count(b'\xff\xd8') == 1  # a JPEG begins
    stream.close()


@pytest.mark.slow
def test_other_addresses_get_a_token(photo, tiny_bundle):
    words = photo, '--engine', tiny_bundle, '--backend', 'openvino', '--host', '0.0.0.0'
    with running(*words, ended_by=signal.SIGTERM) as url:
        address, _, token = url.partition('/?token=')
        host, _, port = address.removeprefix('http://').partition(':')
        assert host == socket.gethostname()
        assert len(token) == 32
        with urlopen(f'http://127.0.0.1:{port}/metrics?token={token}', timeout=20) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([], 'give a SOURCE, or --ros for a running node'),
        (['x.mp4', '--ros'], 'give a SOURCE, or --ros for a running node'),
        (['--ros', '--threshold', '0.5'], '--threshold is for a SOURCE'),
        (['x.mp4', '--node', 'car'], '--node is for --ros'),
        (['x.mp4', '--port', '70000'], "'--port'"),
    ],
)
def test_what_does_not_go_together_is_said(arguments, words):
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    ('source', 'host', 'words'),
    [
        ('none.mp4', '127.0.0.1', r'none\.mp4: no such file'),
        (None, '203.0.113.1', r'--host 203\.0\.113\.1 --port 0: cannot listen there'),
    ],
)
def test_what_cannot_be_is_told_before_the_engine_is_loaded(
    monkeypatch, photo, source, host, words
):
    monkeypatch.setattr(Engine, 'load', lambda *_, **__: pytest.fail('the engine is loaded'))
    with pytest.raises(MultishiftError, match=words):
        CliRunner().invoke(
            command, [source or str(photo), '--host', host, '--port', '0'], catch_exceptions=False
        )


@pytest.mark.parametrize(
    ('library', 'module', 'arguments', 'words'),
    [
        ('aiohttp', 'server', ['x.mp4'], r"`view` needs aiohttp, .* `pip install '.\[view\]'`"),
        (
            'rclpy',
            'ros_feed',
            ['--ros', '--port', '0'],
            '--ros needs ROS 2, which does not load .*rclpy',
        ),
    ],
)
def test_a_missing_library_is_one_line(monkeypatch, library, module, arguments, words):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f'multishift_perception.view.{module}', raising=False)
    result = CliRunner().invoke(command, arguments)
    with pytest.raises(MultishiftError, match=words) as caught:
        raise result.exception
    assert len(str(caught.value).splitlines()) == 1

# SPDX-License-Identifier: Apache-2.0
"""No process of ours contacts anyone, or leaves an identity in the home folder.

Every test checks the first, by the fixture `contacts`; here are the second, and proof that the
guard works.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
# Each imports something that reports its use; not in this process, where NNCF sees pytest and does
# not.
IMPORTS = """
from multishift_training.export import openvino_graph, quantize
from multishift_training.datasets import transforms
from multishift_perception.engine import Engine
quantize.check_quantization()
Engine.load(None, backend='openvino').close()
"""
# By these, libraries tell a machine of continuous integration, from which they report nothing.
SILENCING = ('CI', 'TF_BUILD', 'JENKINS_URL', 'NNCF_CI', 'NO_ALBUMENTATIONS_UPDATE')


def run(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in SILENCING}
    return subprocess.run(
        [sys.executable, '-c', script],
        env={**environment, 'HOME': str(home)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_nothing_is_reported_or_left_in_the_home_folder(tmp_path: Path) -> None:
    done = run(IMPORTS, tmp_path)
    assert done.returncode == 0, done.stderr
    # Caches of what was computed may stay.
    assert not {path.name for path in tmp_path.iterdir()} - {'.cache', '.config'}


@pytest.mark.parametrize(
    'contact',
    [
        "import socket; socket.getaddrinfo('host.invalid', 443)",
        "import socket; socket.create_connection(('192.0.2.1', 443), timeout=0.1)",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 9))",
    ],
)
def test_guard_sees_contacts(contact: str, tmp_path: Path, contacts: Path) -> None:
    run(contact, tmp_path)
    assert contacts.exists()
    contacts.unlink()


def test_guard_allows_this_machine(tmp_path: Path) -> None:
    script = (
        'import socket\n'
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(('localhost', server.getsockname()[1])).close()\n"
    )
    assert run(script, tmp_path).returncode == 0


def test_pretrained_files_are_local() -> None:
    calls = [
        node
        for file in (ROOT / 'training').rglob('*.py')
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == 'from_pretrained'
    ]
    assert len(calls) >= 5
    for call in calls:
        assert 'local_files_only' in {keyword.arg for keyword in call.keywords}

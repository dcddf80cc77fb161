# SPDX-License-Identifier: Apache-2.0
"""Writes down, and refuses, what asks for a name or an address outside this machine.

Every Python process of the tests loads it: see ``conftest.py``.
"""

from __future__ import annotations

import os
import socket
import sys

_CONNECTS = {'socket.connect', 'socket.sendto', 'socket.sendmsg'}
_LOOKUPS = {'socket.getaddrinfo', 'socket.gethostbyname', 'socket.gethostbyaddr'}
_HERE = ('localhost', '::1', '0.0.0.0', '::', '', None, socket.gethostname())


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in _LOOKUPS:
        host = arguments[0]
    elif event in _CONNECTS and isinstance(arguments[1], tuple):  # else a path of this machine
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host in _HERE or str(host).startswith('127.'):
        return
    with open(os.environ['MULTISHIFT_TEST_CONTACTS'], 'a') as file:
        file.write(f'{sys.orig_argv}: {event} {host}\n')
    raise OSError(f'the tests contact nobody: {event} {host}')


if 'MULTISHIFT_TEST_CONTACTS' in os.environ:
    sys.addaudithook(_refuse)

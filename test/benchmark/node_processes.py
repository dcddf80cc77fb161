# SPDX-License-Identifier: Apache-2.0
"""Processes around a node that is measured: to run them, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
import signal
import subprocess
import time
from typing import Any
from xml.etree import ElementTree

from multishift_perception.demo.environment import shared_profile

_NAMESPACE = 'http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles'


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, whose output nobody wants, and end it by Ctrl-C."""
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far, all its threads together."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid() makes it


def without_udp(folder: Path) -> dict[str, str]:
    """Return the variables of a graph that speaks by shared memory alone.

    Nobody else finds it. Messages are not cut into fragments of 64 kB, as UDP would have them.

    Args:
        folder: where the profile is written.
    """
    ElementTree.register_namespace('', _NAMESPACE)
    profile = ElementTree.parse(shared_profile())
    (transports,) = profile.findall('.//{*}userTransports')
    for transport in [t for t in transports if t.text == 'udp']:
        transports.remove(transport)
    file = folder / 'without_udp.xml'
    profile.write(file)
    return {
        'FASTRTPS_DEFAULT_PROFILES_FILE': str(file),
        'FASTDDS_DEFAULT_PROFILES_FILE': str(file),
        # For any narrower one, rmw_fastrtps adds UDP.
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET',
    }

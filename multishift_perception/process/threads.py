# SPDX-License-Identifier: Apache-2.0
"""How threads that compute together wait for each other."""

from __future__ import annotations

import os


def wait_asleep() -> None:
    """Have OpenMP's threads sleep while they wait, rather than spin; only before torch is loaded.

    Every operation of a network waits for the last of its threads. Where another process holds
    one of their cores, the others would spend theirs on spinning, and hold that thread up further:
    several times the CPU time. What the environment says of it already stays.
    """
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

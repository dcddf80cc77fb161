# SPDX-License-Identifier: Apache-2.0
"""The environment of the demonstration's processes: their own graph, large images whole."""

from __future__ import annotations

import os
from pathlib import Path
import random

from multishift_perception.errors import MultishiftError

_PROFILE = 'fastdds_shm.xml'
# Safe on every platform; the ports of higher ones may collide with those that systems hand out.
_DOMAINS = range(1, 102)


def graph_environment() -> dict[str, str]:
    """Return the variables that keep the graph to itself and its messages whole.

    The shared-memory profile is what a vehicle would use; a profile that the user has set wins.

    Raises:
        MultishiftError: the profile was not installed.
    """
    ours = {
        # Other ROS programs of this machine or network neither see the demo nor disturb it.
        'ROS_DOMAIN_ID': str(random.SystemRandom().choice(_DOMAINS)),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp',
    }
    profile = os.environ.get('FASTRTPS_DEFAULT_PROFILES_FILE') or str(shared_profile())
    return {
        **ours,
        'FASTRTPS_DEFAULT_PROFILES_FILE': profile,
        'FASTDDS_DEFAULT_PROFILES_FILE': profile,
    }


def shared_profile() -> Path:
    """Return the shipped Fast DDS profile, of the source tree or of the installation.

    Raises:
        MultishiftError: it is in neither place.
    """
    root = Path(__file__).resolve().parents[2]
    # Installed, the root is PREFIX/lib/pythonX.Y/site-packages.
    shares = [prefix / 'share' / 'multishift_perception' for prefix in root.parents[2:3]]
    places = [folder / 'config' / _PROFILE for folder in (root, *shares)]
    for place in places:
        if place.is_file():
            return place
    raise MultishiftError(
        f'{places[-1]}: missing; install the package again, or name a profile in '
        'FASTRTPS_DEFAULT_PROFILES_FILE'
    )

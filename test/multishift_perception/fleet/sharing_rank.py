# SPDX-License-Identifier: Apache-2.0
"""A rank of `torchrun` that begins its first bag only when the other has one, too.

    torchrun --nproc-per-node 2 sharing_rank.py MET replay ...

``MET`` is a folder in which each rank that has a bag leaves a file called as its number.
"""

from __future__ import annotations

import os
from pathlib import Path
import sys
import time

from multishift_perception.cli.main import main
import multishift_perception.fleet.run as fleet
from multishift_perception.fleet.sources import Source
from multishift_perception.replay import Replayed

met = Path(sys.argv.pop(1))
replay = fleet._Work._replay


def meet(work: fleet._Work, source: Source) -> Replayed:
    """Wait for the other rank, and replay."""
    met.mkdir(exist_ok=True)
    (met / os.environ['RANK']).touch()
    end = time.monotonic() + 120
    while len(list(met.iterdir())) < int(os.environ['WORLD_SIZE']) and time.monotonic() < end:
        time.sleep(0.02)
    return replay(work, source)


fleet._Work._replay = meet  # type: ignore[method-assign, assignment]
# The pages of single bags, whose charts take longer than the bags.
sys.modules['multishift_perception.report.drive_report'].render = lambda report: ''  # type: ignore[attr-defined]
main()

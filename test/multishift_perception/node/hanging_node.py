# SPDX-License-Identifier: Apache-2.0
"""The node with an engine whose calls hang as long as a file exists: ``HANG`` names it."""

from __future__ import annotations

import os
from pathlib import Path
import sys
import time
from typing import Any

from multishift_perception.engine.openvino_backend import OpenVinoBackend
from multishift_perception.node.main import main

_HANG = Path(os.environ['HANG'])
_run = OpenVinoBackend.run


def _hanging(self: OpenVinoBackend, frames: Any) -> Any:
    while _HANG.exists():
        time.sleep(0.01)
    return _run(self, frames)


OpenVinoBackend.run = _hanging  # type: ignore[method-assign]
sys.exit(main())

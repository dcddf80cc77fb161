# SPDX-License-Identifier: Apache-2.0
"""The node with an engine whose calls take longer by the seconds in the file ``SLOW`` names."""

from __future__ import annotations

import os
from pathlib import Path
import sys
import time
from typing import Any

from multishift_perception.engine.openvino_backend import OpenVinoBackend
from multishift_perception.node.main import main

_SLOW = Path(os.environ['SLOW'])
_run = OpenVinoBackend.run


def _slow(self: OpenVinoBackend, frames: Any) -> Any:
    time.sleep(float(_SLOW.read_text() or 0) if _SLOW.exists() else 0.0)
    return _run(self, frames)


OpenVinoBackend.run = _slow  # type: ignore[method-assign]
sys.exit(main())

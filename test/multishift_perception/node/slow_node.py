# SPDX-License-Identifier: Apache-2.0
"""The node with an engine whose calls take longer by the seconds in the file ``SLOW`` names."""

from __future__ import annotations

from contextlib import suppress
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
    with suppress(FileNotFoundError):  # it may go between a look and the reading
        time.sleep(float(_SLOW.read_text() or 0))
    return _run(self, frames)


OpenVinoBackend.run = _slow  # type: ignore[method-assign]
sys.exit(main())

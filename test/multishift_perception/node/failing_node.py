# SPDX-License-Identifier: Apache-2.0
"""The node with an engine that fails, by what is in the file that ``FAIL`` names.

``instance``: the engine that is loaded fails from now on; one that is loaded later works.
``all``: every engine fails, while it is loaded too.

It forgets faults after a second, so that a test need not wait for it.
"""

from __future__ import annotations

from contextlib import suppress
import os
from pathlib import Path
import sys
from typing import Any

from multishift_perception.engine.openvino_backend import OpenVinoBackend
from multishift_perception.node import recent
from multishift_perception.node.main import main

recent.WINDOW_S = 1.0
_FAIL = Path(os.environ['FAIL'])
_run = OpenVinoBackend.run
_broken: list[OpenVinoBackend] = []


def _failing(self: OpenVinoBackend, frames: Any) -> Any:
    what = ''
    with suppress(FileNotFoundError):  # it may go between a look and the reading
        what = _FAIL.read_text()
    if what == 'instance':
        _broken.append(self)
        _FAIL.unlink()
    if what == 'all' or self in _broken:
        raise RuntimeError('device lost')
    return _run(self, frames)


OpenVinoBackend.run = _failing  # type: ignore[method-assign]
sys.exit(main())

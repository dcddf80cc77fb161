# SPDX-License-Identifier: Apache-2.0
"""How far an evaluation has come, in files that an interrupted one goes on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
import hashlib
import json
import logging
from pathlib import Path
import time
from typing import Any

from multishift_perception import files
from multishift_training.datasets import LabelledImages

logger = logging.getLogger(__name__)

_INTERVAL = 60.0  # seconds between two saves
_SHARE = 20  # times as long as the last save took, at least
_OWN = '[0-9a-f]' * 16 + '.state'


class Progress:
    """The folder of what is judged so far: a file for each data set.

    Attributes:
        folder: where the files are.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Wrap a folder, which need not exist.

        Args:
            folder: where the files are.
            run: all that the figures depend on besides the images, JSON-ready. What was saved
                under something else is not taken up.
        """
        self.folder = folder
        self._run = run
        self._digests: dict[str, str] = {}
        self._next = time.monotonic() + _INTERVAL

    def load(self, name: str, images: LabelledImages) -> bytes | None:
        """Return what was last saved of a data set; None if nothing, or not of this run.

        What is kept later is of the files as they are now.
        """
        self._digests[name] = digest_of([self._run, name], images)
        path = self._path(name)
        if not path.is_file():
            return None
        digest, _, state = path.read_bytes().partition(b'\n')
        if digest != self._digests[name].encode():
            logger.warning(
                '%s: an evaluation of something else was interrupted here: this one begins anew',
                name,
            )
            return None
        return state

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self._next

    def keep(self, name: str, state: Callable[[], bytes]) -> None:
        """Save the state of a data set that `load` was asked for."""
        start = time.monotonic()
        content = self._digests[name].encode() + b'\n' + state()
        files.write_bytes(self._path(name), content)
        end = time.monotonic()
        self._next = end + max(_INTERVAL, _SHARE * (end - start))

    def remove(self) -> None:
        """Remove all of it, once it is reported; what others put there stays."""
        for name in self._digests:
            files.remove_leftovers(self._path(name))
        for path in self.folder.glob(_OWN):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not there, or not empty
            self.folder.rmdir()
            self.folder.parent.rmdir()

    def _path(self, name: str) -> Path:
        # Names of data sets may be anything.
        return self.folder / f'{hashlib.sha256(name.encode()).hexdigest()[:16]}.state'


def digest_of(about: Sequence[Any], *sets: LabelledImages) -> str:
    """Return the SHA-256 of what figures depend on.

    Args:
        about: all that matters besides the images, JSON-ready.
        sets: the images, which are told apart by their files' sizes and times.
    """
    stats = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for images in sets
        for entry in images.entries
        for path in (entry.image, entry.labels, entry.base)
        if path is not None and path.exists()
    ]
    content = json.dumps([*about, stats], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()

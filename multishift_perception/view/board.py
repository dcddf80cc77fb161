# SPDX-License-Identifier: Apache-2.0
"""What is looked at, and the newest picture of it: all that server and feed know of each other."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from time import monotonic

from multishift_perception.view.pictures import PictureKind

# A page asks for its lists once a second; one that does not ask any more is gone.
_LIST_S = 4.0


class Viewer:
    """Who looks at a picture: is given the newest one, each once, and never waits for older."""

    def __init__(self) -> None:
        """Begin with nothing seen; in the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._picture: bytes | None = None

    async def next(self) -> bytes | None:
        """Wait for a picture that was not given yet; None once the board is closed."""
        await self._news.wait()
        self._news.clear()
        return self._picture

    def give(self, picture: bytes | None) -> None:
        """Give the newest picture, from any thread; None: there will be no more."""
        with suppress(RuntimeError):  # the loop has ended, and who looked with it
            self._loop.call_soon_threadsafe(self._take, picture)

    def _take(self, picture: bytes | None) -> None:
        self._picture = picture
        self._news.set()


class Board:
    """Holds who looks at what, and gives them the newest pictures; for any threads."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Begin with nobody.

        Args:
            clock: steady time in seconds.
        """
        self._clock = clock
        self._lock = Lock()
        self._viewers: dict[tuple[str, PictureKind], list[Viewer]] = defaultdict(list)
        self._newest: dict[tuple[str, PictureKind], bytes] = {}
        self._lists: dict[str, float] = {}
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever what is looked at has changed, in whatever thread."""
        self._listeners.append(listener)

    def wanted(self, camera: str) -> frozenset[PictureKind]:
        """Return the pictures of a camera that somebody looks at."""
        with self._lock:
            return frozenset(k for (name, k), viewers in self._viewers.items() if name == camera)

    def viewers(self) -> dict[tuple[str, PictureKind], int]:
        """Return how many look at each picture that somebody looks at."""
        with self._lock:
            return {key: len(viewers) for key, viewers in self._viewers.items()}

    def show(self, camera: str, kind: PictureKind, picture: bytes) -> None:
        """Give a picture, JPEG, to all that look at it."""
        key = camera, kind
        with self._lock:
            if key not in self._viewers:
                return
            self._newest[key] = picture
            viewers = list(self._viewers[key])
        for viewer in viewers:
            viewer.give(picture)

    @contextmanager
    def watching(self, camera: str, kind: PictureKind) -> Iterator[Viewer]:
        """Look at a picture while the block lasts."""
        key, viewer = (camera, kind), Viewer()
        with self._lock:
            self._viewers[key].append(viewer)
            is_first = len(self._viewers[key]) == 1
            if key in self._newest:
                viewer.give(self._newest[key])
        try:
            if is_first:
                self._tell()
            yield viewer
        finally:
            with self._lock:
                self._viewers[key].remove(viewer)
                is_last = not self._viewers[key]
                if is_last:
                    del self._viewers[key]
                    self._newest.pop(key, None)
            if is_last:
                self._tell()

    def ask_list(self, camera: str) -> None:
        """Note that somebody reads the list of a camera's anomalies."""
        is_new = not self.wants_list(camera)
        self._lists[camera] = self._clock()
        if is_new:
            self._tell()

    def wants_list(self, camera: str) -> bool:
        """Return whether somebody reads the list of a camera's anomalies."""
        return self._clock() - self._lists.get(camera, -_LIST_S) < _LIST_S

    def is_watched(self, camera: str) -> bool:
        """Return whether somebody looks at anything of a camera."""
        return bool(self.wanted(camera)) or self.wants_list(camera)

    def close(self) -> None:
        """Tell all that look that there will be no more."""
        with self._lock:
            viewers = [viewer for group in self._viewers.values() for viewer in group]
        for viewer in viewers:
            viewer.give(None)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

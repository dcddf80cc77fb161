# SPDX-License-Identifier: Apache-2.0
"""Plays one camera's footage as a camera would send it, while somebody looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
import logging
from threading import Condition, Thread
from time import monotonic

from multishift_perception.arrays import Bytes
from multishift_perception.errors import MultishiftError
from multishift_perception.footage import Footage, open_footage
from multishift_perception.frame_tally import Drop
from multishift_perception.images.frame_errors import FrameError

logger = logging.getLogger(__name__)

# What broke off is opened again after this long.
_RETRY_S = 2.0
# A camera that nobody looks at any more is closed after this long; to open one takes a second.
_LINGER_S = 5.0
# Images are no video: this many are shown in a second.
IMAGE_RATE = 2.0


@dataclass(frozen=True)
class Playing:
    """How footage is played.

    Attributes:
        every: take every n-th frame.
        rate: frames a second; None for the footage's own.
        is_looped: whether files start again at their end.
    """

    every: int = 1
    rate: float | None = None
    is_looped: bool = True


class Player:
    """A thread that decodes frames when they are due; a newer one replaces an older.

    Frames of images wait until they are taken: there, none is too late.

    Attributes:
        received: frames that were due.
        dropped: frames that were not taken, by cause.
        fault: why no frame comes; empty if some do.
        has_ended: whether the last frame was played, and none will come.
    """

    def __init__(
        self,
        source: str,
        place: int,
        playing: Playing,
        *,
        change: Condition,
        is_watched: Callable[[], bool],
    ) -> None:
        """Take a source; nothing is opened yet.

        Args:
            source: see `open_footage`.
            place: which footage of the source.
            playing: how it is played.
            change: notified when a frame comes; whoever notifies it wakes the player.
            is_watched: tells whether somebody looks.
        """
        self.received = 0
        self.dropped: Counter[str] = Counter()
        self.fault = ''
        self.has_ended = False
        self._source = source
        self._place = place
        self._playing = playing
        self._change = change
        self._is_watched = is_watched
        self._is_closing = False
        self._frame: tuple[Bytes, float] | None = None
        self._thread = Thread(target=self._run, name=f'player {place}', daemon=True)

    def start(self) -> None:
        """Begin to wait for somebody who looks."""
        self._thread.start()

    def take(self) -> tuple[Bytes, float] | None:
        """Return the newest frame, RGB ``uint8 [h,w,3]``, and when it came; None without one.

        Whoever calls holds ``change``.
        """
        frame, self._frame = self._frame, None
        if frame is not None:
            self._change.notify_all()
        return frame

    @property
    def has_frame(self) -> bool:
        """Whether a frame waits to be taken."""
        return self._frame is not None

    def close(self, timeout: float) -> bool:
        """End; return whether the thread has ended, which one in a dead stream does not."""
        with self._change:
            self._is_closing = True
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        said = ''
        while self._wait_until(self._is_watched):
            before = self.received
            try:
                with ExitStack() as stack:
                    footage = open_footage(self._source, stack, every=self._playing.every)[
                        self._place
                    ]
                    is_over = self._play(footage)
                if is_over and footage.is_live:
                    self.fault = f'{footage.name}: no more frames come; it is opened again'
                elif is_over and self.received == before:
                    raise MultishiftError(f'{footage.name}: no frame that can be used')
                elif is_over and (not self._playing.is_looped or footage.count == 1):
                    self.has_ended = True
                    return
            except MultishiftError as error:
                self.fault = str(error)
            if self.fault:
                if self.fault != said:
                    logger.warning('%s', self.fault)
                said = self.fault
                self._pause(_RETRY_S)

    def _play(self, footage: Footage) -> bool:
        """Play to the end; return False where there is more that nobody wants."""
        is_still = footage.rate is None and not footage.is_live
        rate = self._playing.rate or footage.rate or IMAGE_RATE
        due = seen = monotonic()
        for frame in footage.frames:
            if footage.is_live:
                # It waits for nobody: left alone, its frames would be old when somebody looks.
                seen = monotonic() if self._is_watched() else seen
                if self._is_closing or monotonic() - seen > _LINGER_S:
                    return False
            else:
                self._pause(due - monotonic())
                due = max(due + 1 / rate, monotonic())
                ready = self._is_free if is_still else self._is_watched
                if not self._wait_until(ready):
                    return False
            try:
                image = frame.read()
            except FrameError as error:
                self.dropped[error.cause] += 1
                continue
            self._put(image)
        return True

    def _is_free(self) -> bool:
        return self._is_watched() and not self.has_frame

    def _put(self, image: Bytes) -> None:
        with self._change:
            self.fault = ''
            self.received += 1
            if self._frame is not None:
                self.dropped[Drop.SUPERSEDED] += 1
            self._frame = image, monotonic()
            self._change.notify_all()

    def _wait_until(self, holds: Callable[[], bool]) -> bool:
        """Wait until something holds; return False where the player ends first."""
        with self._change:
            self._change.wait_for(lambda: self._is_closing or holds())
            return not self._is_closing

    def _pause(self, seconds: float) -> None:
        with self._change:
            self._change.wait_for(lambda: self._is_closing, max(0.0, seconds))

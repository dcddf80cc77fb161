# SPDX-License-Identifier: Apache-2.0
"""Shows footage by an engine of this process, a frame of each camera in turn, while looked at."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
import logging
from pathlib import Path
from threading import Condition, Thread
from time import monotonic

from multishift_perception.arrays import Bytes
from multishift_perception.classes import color_table
from multishift_perception.engine import Engine
from multishift_perception.errors import one_line
from multishift_perception.frame_tally import Drop
from multishift_perception.overlay import ALPHA, color_labels, draw_overlay, draw_score
from multishift_perception.pipeline import FrameOutput, Pipeline, anomaly_mask, score_unit
from multishift_perception.regions import Region, find_regions
from multishift_perception.shift import UNKNOWN, Shift, ShiftMeter
from multishift_perception.view.board import Board
from multishift_perception.view.feed import CameraState, Level, Notice
from multishift_perception.view.pictures import (
    PictureKind,
    encode_picture,
)
from multishift_perception.view.player import Player, Playing

logger = logging.getLogger(__name__)

# Rates are of this long, and of so many frames at most: who looks at pictures may ask for no rate.
_RECENT_S, _MOST_TIMES = 3.0, 1000


@dataclass
class _Seen:
    """What the engine said last of a camera.

    Attributes:
        image: the frame, RGB ``uint8 [h,w,3]``.
        output: what the engine said of it.
        came: when it came, steady time in seconds.
    """

    image: Bytes
    output: FrameOutput
    came: float


@dataclass
class _Camera:
    """A camera and what became of its frames.

    Attributes:
        name: name of the camera.
        player: decodes its frames.
        seen: the newest frame with an output; None before the first.
        drawn: the revision that is shown of it.
        processed: frames with an output.
        failed: frames whose engine call failed.
        fault: why the last one did; empty if it did not.
        regions: its anomalies; None if nobody reads them.
        shift: how far it is from what the network was trained on.
        times: when the latest frames were processed, steady time in seconds.
    """

    name: str
    player: Player
    seen: _Seen | None = None
    drawn: int = -1
    processed: int = 0
    failed: int = 0
    fault: str = ''
    regions: list[Region] | None = None
    shift: Shift = UNKNOWN
    times: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_TIMES))

    def note_processed(self, now: float) -> None:
        self.processed += 1
        self.times.append(now)

    def rate(self, now: float) -> float:
        while self.times and now - self.times[0] > _RECENT_S:
            self.times.popleft()
        if len(self.times) < 2:
            return 0.0
        return (len(self.times) - 1) / max(now - self.times[0], 1e-3)


class FootageFeed:
    """The pipeline over footage; nothing is read, computed or encoded while nobody looks.

    Each camera's `Player` decodes in a thread of its own; one more, `_work`, has the engine and
    draws; the page's reads what they have noted.
    """

    lists_are_free = True

    def __init__(
        self,
        source: str,
        cameras: Sequence[str],
        engine: Engine,
        board: Board,
        *,
        threshold: float = 0.5,
        min_area: int = 0,
        playing: Playing | None = None,
    ) -> None:
        """Take a source; nothing is opened yet.

        Args:
            source: see `open_footage`.
            cameras: its cameras, by `find_cameras`.
            engine: loaded.
            board: where pictures go.
            threshold: calibrated score from which a pixel is anomalous, 0..1.
            min_area: pixels that an anomalous region has at least.
            playing: how it is played.
        """
        self._board = board
        self._pipeline = Pipeline(engine)
        self.classes = engine.classes
        self._colors = color_table(engine.classes)
        self._meter = ShiftMeter(engine.classes)
        self._threshold = threshold
        self._min_area = min_area
        self._change = Condition()
        self._is_closing = False
        # Counts all that asks for other pictures of the same frames.
        self._revision = 0
        name = Path(source).name if Path(source).exists() else source
        self.title = f'{name} by {engine.name}'
        self._cameras = [
            _Camera(name, self._player(source, place, name, playing or Playing()))
            for place, name in enumerate(cameras)
        ]
        self._thread = Thread(target=self._work, name='view', daemon=True)
        board.on_change(self._note_change)

    def _player(self, source: str, place: int, name: str, playing: Playing) -> Player:
        return Player(
            source,
            place,
            playing,
            change=self._change,
            is_watched=lambda: self._board.is_watched(name),
        )

    def start(self) -> None:
        """Begin to wait for somebody who looks."""
        for camera in self._cameras:
            camera.player.start()
        self._thread.start()

    def close(self) -> bool:
        """End; return whether all threads have: one that reads a dead stream does not."""
        with self._change:
            self._is_closing = True
            self._change.notify_all()
        ended = [camera.player.close(0.2) for camera in self._cameras]
        if self._thread.is_alive():
            self._thread.join(0.5)
        return all(ended) and not self._thread.is_alive()

    @property
    def threshold(self) -> float:
        """Calibrated score from which a pixel is anomalous."""
        return self._threshold

    async def set_threshold(self, value: float) -> None:
        """Change the threshold; what is shown changes at once."""
        self._threshold = value
        self._note_change()

    def notice(self) -> Notice:
        """Return whether all has been played."""
        if all(camera.player.has_ended for camera in self._cameras):
            return Notice(Level.OK, 'played to the end')
        return Notice(Level.OK, '')

    def cameras(self) -> list[CameraState]:
        """Return how each camera is."""
        return [self._state(camera) for camera in self._cameras]

    def _state(self, camera: _Camera) -> CameraState:
        now, player, seen = monotonic(), camera.player, camera.seen
        is_watched = self._board.is_watched(camera.name)
        dropped = Counter(player.dropped)
        dropped[Drop.ENGINE] += camera.failed
        rate = camera.rate(now)
        if fault := player.fault or camera.fault:
            notice = Notice(Level.ERROR, fault)
        elif player.has_ended:
            notice = Notice(Level.OK, 'the last frame')
        elif not is_watched:
            notice = Notice(Level.OK, 'not watched')
        else:
            notice = Notice(Level.OK, '')
        return CameraState(
            camera.name,
            notice,
            rate=rate,
            age=now - seen.came if seen and is_watched and not player.has_ended else None,
            received=player.received,
            processed=camera.processed,
            dropped=dropped,
            size=(seen.image.shape[1], seen.image.shape[0]) if seen else None,
            regions=camera.regions if self._board.wants_list(camera.name) else None,
            shift=camera.shift,
        )

    def _note_change(self) -> None:
        with self._change:
            self._revision += 1
            self._change.notify_all()

    def _work(self) -> None:
        while frames := self._await_work():
            fresh = {name: frame for name, frame in frames.items() if frame is not None}
            waiting = [camera for camera in self._cameras if camera.name in frames]
            self._run_engine([(c, *fresh[c.name]) for c in waiting if c.name in fresh])
            for camera in waiting:
                self._draw(camera)

    def _await_work(self) -> dict[str, tuple[Bytes, float] | None]:
        """Wait for frames, or for other pictures of the last ones; nothing when it ends."""

        def has_work(camera: _Camera) -> bool:
            is_old = camera.seen is not None and camera.drawn != self._revision
            return camera.player.has_frame or is_old

        with self._change:
            self._change.wait_for(lambda: self._is_closing or any(map(has_work, self._cameras)))
            if self._is_closing:
                return {}
            return {c.name: c.player.take() for c in self._cameras if has_work(c)}

    def _run_engine(self, frames: list[tuple[_Camera, Bytes, float]]) -> None:
        if not frames:
            return
        try:
            outputs = self._pipeline.run([image for _, image, _ in frames])
        except Exception as error:  # whatever the engine's library raises
            fault = f'the engine call failed: {one_line(error)}'
            if all(camera.fault != fault for camera, _, _ in frames):
                logger.exception('%s', fault)
            for camera, _, _ in frames:
                camera.failed += 1
                camera.fault = fault
            return
        for (camera, image, came), output in zip(frames, outputs, strict=True):
            camera.seen = _Seen(image, output, came)
            camera.fault = ''
            camera.shift = self._meter.measure(output, self._threshold, self._min_area)
            camera.note_processed(monotonic())

    def _draw(self, camera: _Camera) -> None:
        """Show what is looked at of a camera, and find the regions if they are read."""
        # First, so that a change while it is drawn is drawn later.
        camera.drawn = self._revision
        wanted, seen = self._board.wanted(camera.name), camera.seen
        wants_list = self._board.wants_list(camera.name)
        if seen is None or not (wanted or wants_list):
            return
        output = seen.output
        mask = anomaly_mask(output.anomaly, self._threshold, self._min_area)
        for kind in wanted:
            match kind:
                case PictureKind.OVERLAY:
                    drawn = draw_overlay(
                        seen.image, output.engine_labels, mask, self._colors, ALPHA
                    )
                case PictureKind.LABELS:
                    drawn = color_labels(output.labels, self._colors)
                case PictureKind.SCORE:
                    drawn = draw_score(score_unit(output.anomaly))
                case PictureKind.MASK:
                    drawn = mask
            self._board.show(camera.name, kind, encode_picture(drawn))
        camera.regions = find_regions(mask, output.anomaly) if wants_list else None

# SPDX-License-Identifier: Apache-2.0
"""What the worker does in a turn: drop the unusable, run the engine, publish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
import logging

import rclpy
from rclpy.exceptions import InvalidHandle

from multishift_perception.errors import MultishiftError
from multishift_perception.frame_tally import Drop
from multishift_perception.images.codec import FrameError, open_picture
from multishift_perception.images.picture import Picture
from multishift_perception.node.activity import Activity, Stage
from multishift_perception.node.camera import Camera
from multishift_perception.node.engine_restart import MOST_ATTEMPTS, EngineRestart
from multishift_perception.node.engine_statistics import EngineStatistics
from multishift_perception.node.frame_age import Age, is_late, judge
from multishift_perception.node.frame_slots import Arrival
from multishift_perception.node.messages import calibrated_size
from multishift_perception.node.parameters import Settings
from multishift_perception.node.publishers import parts_of
from multishift_perception.outputs import Output
from multishift_perception.pipeline import FrameOutput, Pipeline
from multishift_perception.stamps import stamp_ns

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Frame:
    """A frame of this turn that is worth an engine call, or at least its calibration."""

    camera: Camera
    arrival: Arrival
    age: Age
    image: Picture
    wanted: frozenset[Output]
    stages: dict[Stage, float] = field(default_factory=dict)

    @property
    def needs_engine(self) -> bool:
        """Whether an engine call is wanted; the calibration alone needs none."""
        return any(output.needs_engine for output in self.wanted)


class Processor:
    """Processes the frames of a turn; none of them, however bad, stops it."""

    def __init__(
        self,
        pipeline: Pipeline,
        cameras: Mapping[str, Camera],
        *,
        settings: Callable[[], Settings],
        now_ns: Callable[[], int],
        engine_size: tuple[int, int],
        call_size: Callable[[int], int],
        statistics: EngineStatistics,
        clock: Callable[[], float],
        restart: EngineRestart,
        load_anew: Callable[[], Pipeline],
    ) -> None:
        """Wire the parts.

        Args:
            pipeline: the inference.
            cameras: the cameras by name.
            settings: returns the current settings.
            now_ns: the node's clock in nanoseconds.
            engine_size: height and width of the network's input.
            call_size: returns how many frames a call takes when so many are there.
            statistics: where turns and faults are counted.
            clock: steady time in seconds, that of the arrivals.
            restart: says when the engine should be loaded anew.
            load_anew: replaces the engine, and returns its pipeline.
        """
        self.activity = Activity(clock)
        self._pipeline: Pipeline | None = pipeline
        self._cameras = cameras
        self._settings = settings
        self._now_ns = now_ns
        self._engine_size = engine_size
        self._call_size = call_size
        self._statistics = statistics
        self._clock = clock
        self._restart = restart
        self._load_anew = load_anew
        self._named: set[tuple[str, object]] = set()

    def process(self, turn: Mapping[str, Arrival]) -> None:
        """Process the newest frames of some cameras; each is published when its call ends."""
        settings = self._settings()
        if settings.engine_restart == 'reload' and self._restart.is_due():
            self._reload()
        begin = self._clock()
        frames = [
            frame
            for name, arrival in turn.items()
            if (frame := self._admit(self._cameras[name], arrival, begin, settings))
        ]
        for frame in frames:
            if not frame.needs_engine:
                self._publish_or_drop(frame, None, settings)
        for group in self._calls([frame for frame in frames if frame.needs_engine]):
            outputs = self._infer(group)
            for frame, output in zip(group, outputs, strict=False):  # none after a fault
                self._publish_or_drop(frame, output, settings)
            end = self._clock()
            self._statistics.turn(len(outputs), end - begin)
            begin = end

    def _calls(self, frames: Sequence[_Frame]) -> Iterator[Sequence[_Frame]]:
        """Yield the frames of each engine call: more than one where some were dropped."""
        while frames:
            size = self._call_size(len(frames))
            yield frames[:size]
            frames = frames[size:]

    def _admit(
        self, camera: Camera, arrival: Arrival, begin: float, settings: Settings
    ) -> _Frame | None:
        """Judge and decode a frame; what will be dropped is never decoded."""
        wanted = camera.outputs.wanted(settings.publish_always)
        if not wanted:
            return None
        age = judge(stamp_ns(arrival.message), self._now_ns(), settings.max_frame_age_ms)
        if age.fault:
            camera.statistics.note_stamp(age.words)
            self._name_once(camera, age.fault, age.words)
        if age.drop:
            camera.statistics.drop(age.drop)
            return None
        try:
            with self.activity.during(Stage.DECODE) as seconds:
                image = open_picture(arrival.message, max_pixels=settings.max_image_pixels)
        except FrameError as error:
            camera.statistics.drop(error.cause)
            kind = getattr(arrival.message, 'encoding', '')
            mend = '; parameter max_image_pixels' if error.cause is Drop.OVERSIZED else ''
            self._name_once(camera, f'{error.cause} {kind}', f'frame dropped: {error}{mend}')
            return None
        stages = {Stage.WAIT: begin - arrival.received_at, Stage.DECODE: seconds()}
        return _Frame(camera, arrival, age, image, wanted, stages)

    def _reload(self) -> None:
        attempt = self._restart.begin()
        logger.error(
            'engine calls go on failing: the engine is loaded anew, attempt %d of %d',
            attempt,
            MOST_ATTEMPTS,
        )
        self._pipeline = None  # the old engine is closed, whatever comes
        try:
            self._pipeline = self._load_anew()
        except Exception as error:  # whatever a backend throws: the node lives on
            self._restart.end(f'{type(error).__name__}: {error}')
            logger.error('the engine cannot be loaded anew: %s', error)
            return
        self._restart.end()
        logger.info('the engine is loaded anew')

    def _infer(self, frames: Sequence[_Frame]) -> list[FrameOutput]:
        """Run the engine once; returns an output for each frame, none after a fault."""
        try:
            if self._pipeline is None:
                raise MultishiftError('there is no engine: it could not be loaded anew')
            with self.activity.during(Stage.ENGINE) as seconds:
                outputs = self._pipeline.run(
                    [frame.image for frame in frames],
                    # Diagnostics follow the look, whatever is watched: it has 200 bytes.
                    [parts_of(frame.wanted) | {'look'} for frame in frames],
                )
        except Exception as error:  # whatever a backend throws: the node lives on
            for frame in frames:
                frame.camera.statistics.drop(Drop.ENGINE)
            self._restart.fail()
            # One traceback tells all; the diagnostics count the others.
            if self._statistics.fail(error):
                logger.exception('the engine call failed; %d frames are dropped', len(frames))
            return []
        self._restart.succeed()
        for frame in frames:
            frame.stages[Stage.ENGINE] = seconds()
        return outputs

    def _publish_or_drop(
        self, frame: _Frame, output: FrameOutput | None, settings: Settings
    ) -> None:
        stamp, now, limit = self._stamp(frame), self._now_ns(), settings.max_frame_age_ms
        if is_late(frame.age, stamp, now, limit):
            frame.camera.statistics.drop(Drop.LATE)
            return
        try:
            with self.activity.during(Stage.PUBLISH) as seconds:
                self._publish(frame, output, settings)
            frame.stages[Stage.PUBLISH] = seconds()
        except InvalidHandle:  # its publishers are gone: the session says so
            raise
        except Exception:  # of the middleware: the node lives on
            if rclpy.ok():  # else the process is about to end, and its publishers are gone
                frame.camera.statistics.drop(Drop.PUBLISH)
                logger.exception('camera %s: cannot publish', frame.camera.name)
            return
        received_at = frame.arrival.received_at
        frame.camera.statistics.process(received_at, self._latency(frame), frame.stages)

    def _publish(self, frame: _Frame, output: FrameOutput | None, settings: Settings) -> None:
        camera, message = frame.camera, frame.arrival.message
        info = camera.input.camera_info
        if output is not None:
            if output.covariate_shift is not None:
                camera.statistics.note_look(output.covariate_shift)
            camera.outputs.publish(
                frame.wanted, message.header, frame.image, output, settings, info
            )
        if Output.CALIBRATION in frame.wanted and info is not None:
            height, width = frame.image.shape[:2]
            size = self._engine_size if settings.output_size == 'engine' else (height, width)
            calibrated = calibrated_size(info)
            if calibrated is not None and calibrated != (height, width):
                is_of = f'{calibrated[1]} x {calibrated[0]}'
                text = f'camera_info is of {is_of} pixels, a frame of {width} x {height}: scaled'
                self._name_once(camera, 'camera_info', text)
            camera.outputs.publish_camera_info(info, message.header, (height, width), size)

    def _stamp(self, frame: _Frame) -> int:
        return stamp_ns(frame.arrival.message)

    def _latency(self, frame: _Frame) -> float | None:
        """Return the seconds from header stamp to now, where the stamp can be believed."""
        if frame.age.seconds is None:
            return None
        return max(0.0, (self._now_ns() - self._stamp(frame)) / 1e9)

    def _name_once(self, camera: Camera, subject: object, text: str) -> None:
        if (camera.name, subject) not in self._named:
            self._named.add((camera.name, subject))
            logger.warning('camera %s: %s (said once; see /diagnostics)', camera.name, text)

# SPDX-License-Identifier: Apache-2.0
"""What the worker does with a batch: drop the unusable, run the engine, publish."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import logging

import rclpy

from multishift_perception.frame_tally import Drop
from multishift_perception.images.codec import FrameError, open_picture
from multishift_perception.images.picture import Picture
from multishift_perception.node.camera import Camera
from multishift_perception.node.engine_statistics import EngineStatistics
from multishift_perception.node.frame_age import judge
from multishift_perception.node.frame_slots import Arrival
from multishift_perception.node.parameters import Settings
from multishift_perception.outputs import Output
from multishift_perception.pipeline import FrameOutput, Pipeline
from multishift_perception.stamps import stamp_ns

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Frame:
    camera: Camera
    arrival: Arrival
    age: float | None
    image: Picture
    wanted: frozenset[Output]

    @property
    def needs_engine(self) -> bool:
        """Whether an image is wanted; the calibration alone needs no engine call."""
        return any(output.is_image for output in self.wanted)


class Processor:
    """Processes batches of arrivals; no frame, however bad, stops it."""

    def __init__(
        self,
        pipeline: Pipeline,
        cameras: Mapping[str, Camera],
        settings: Callable[[], Settings],
        now_ns: Callable[[], int],
        engine_size: tuple[int, int],
        statistics: EngineStatistics,
    ) -> None:
        """Wire the parts.

        Args:
            pipeline: the inference.
            cameras: the cameras by name.
            settings: returns the current settings.
            now_ns: the node's clock in nanoseconds.
            engine_size: height and width of the network's input.
            statistics: where the engine calls are counted.
        """
        self._engine_size = engine_size
        self._pipeline = pipeline
        self._cameras = cameras
        self._settings = settings
        self._now_ns = now_ns
        self._named: set[tuple[str, str]] = set()
        self._statistics = statistics

    def process(self, batch: Mapping[str, Arrival]) -> None:
        """Process the newest frames of some cameras."""
        settings = self._settings()
        frames = [
            frame
            for name, arrival in batch.items()
            if (frame := self._admit(self._cameras[name], arrival, settings))
        ]
        outputs = self._infer([frame for frame in frames if frame.needs_engine])
        for frame in frames:
            if not frame.needs_engine or frame.camera.name in outputs:
                self._publish_or_drop(frame, outputs.get(frame.camera.name), settings)

    def _admit(self, camera: Camera, arrival: Arrival, settings: Settings) -> _Frame | None:
        """Judge and decode a frame; what will be dropped is never decoded."""
        wanted = camera.outputs.wanted(settings.publish_always)
        if not wanted:
            return None
        age = judge(stamp_ns(arrival.message), self._now_ns(), settings.max_frame_age_ms)
        if age.fault:
            camera.statistics.note_stamp(age.fault)
            self._name_once(camera, 'stamp', age.fault)
        if age.drop:
            camera.statistics.drop(age.drop)
            return None
        try:
            image = open_picture(arrival.message)
        except FrameError as error:
            camera.statistics.drop(error.cause)
            kind = getattr(arrival.message, 'encoding', '')
            self._name_once(camera, f'{error.cause} {kind}', f'frame dropped: {error}')
            return None
        return _Frame(camera, arrival, age.seconds, image, wanted)

    def _infer(self, frames: list[_Frame]) -> dict[str, FrameOutput]:
        """Run the engine; returns its outputs by camera, none after a fault."""
        if not frames:
            return {}
        try:
            with self._statistics.call(len(frames)):
                outputs = self._pipeline.run([frame.image for frame in frames])
        except Exception:  # whatever a backend throws: the node lives on
            for frame in frames:
                frame.camera.statistics.drop(Drop.ENGINE)
            # One traceback tells all; the diagnostics count the others.
            if self._statistics.report().faults == 1:
                logger.exception('the engine call failed; %d frames are dropped', len(frames))
            return {}
        return {f.camera.name: output for f, output in zip(frames, outputs, strict=True)}

    def _publish_or_drop(
        self, frame: _Frame, output: FrameOutput | None, settings: Settings
    ) -> None:
        try:
            self._publish(frame, output, settings)
        except Exception:  # of the middleware: the node lives on
            if rclpy.ok():  # else the process is about to end, and its publishers are gone
                frame.camera.statistics.drop(Drop.PUBLISH)
                logger.exception('camera %s: cannot publish', frame.camera.name)

    def _publish(self, frame: _Frame, output: FrameOutput | None, settings: Settings) -> None:
        camera, message = frame.camera, frame.arrival.message
        if output is not None:
            camera.outputs.publish(frame.wanted, message.header, frame.image, output, settings)
        info = camera.input.camera_info
        if Output.CALIBRATION in frame.wanted and info is not None:
            height, width = frame.image.shape[:2]
            size = self._engine_size if settings.output_size == 'engine' else (height, width)
            camera.outputs.publish_camera_info(info, message.header, (height, width), size)
        camera.statistics.process(frame.arrival.received_at, self._latency(frame))

    def _latency(self, frame: _Frame) -> float | None:
        """Return the seconds from header stamp to now, where the stamp can be believed."""
        if frame.age is None:
            return None
        return max(0.0, (self._now_ns() - stamp_ns(frame.arrival.message)) / 1e9)

    def _name_once(self, camera: Camera, subject: str, text: str) -> None:
        if (camera.name, subject) not in self._named:
            self._named.add((camera.name, subject))
            logger.warning('camera %s: %s (said once; see /diagnostics)', camera.name, text)

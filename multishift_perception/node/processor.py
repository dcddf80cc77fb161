"""What the worker does with a batch: drop the unusable, run the engine, publish."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
import logging
from threading import Lock
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
import rclpy

from multishift_perception.image_codec import FrameError, decode
from multishift_perception.node.camera_input import CameraInput
from multishift_perception.node.frame_age import judge
from multishift_perception.node.frame_slots import Arrival
from multishift_perception.node.parameters import Settings
from multishift_perception.node.publishers import CameraOutputs
from multishift_perception.node.stream_statistics import WINDOW_S, Percentiles, StreamStatistics
from multishift_perception.pipeline import FrameOutput, Pipeline

logger = logging.getLogger(__name__)

# The calibration needs no engine call.
_INFO_ONLY = frozenset({'camera_info'})


@dataclass(frozen=True)
class Camera:
    """The parts of one camera."""

    name: str
    input: CameraInput
    outputs: CameraOutputs
    statistics: StreamStatistics


@dataclass(frozen=True)
class EngineReport:
    """The engine's statistics; "recent" is the last ``WINDOW_S`` seconds.

    Attributes:
        calls: engine calls since the node was configured.
        mean_batch: recent mean of frames per call; None without a call.
        call_time: recent duration of a call.
        faults: calls that failed since the node was configured.
        recent_faults: calls that failed recently.
        last_fault: the last one's exception.
    """

    calls: int
    mean_batch: float | None
    call_time: Percentiles
    faults: int
    recent_faults: int
    last_fault: str


@dataclass(frozen=True)
class _Frame:
    camera: Camera
    arrival: Arrival
    age: float | None
    image: NDArray[np.uint8]
    wanted: frozenset[str]


class Processor:
    """Processes batches of arrivals; no frame, however bad, stops it."""

    def __init__(
        self,
        pipeline: Pipeline,
        cameras: Mapping[str, Camera],
        settings: Callable[[], Settings],
        now_ns: Callable[[], int],
        engine_size: tuple[int, int],
    ) -> None:
        """Wire the parts.

        Args:
            pipeline: the inference.
            cameras: the cameras by name.
            settings: returns the settings of the moment.
            now_ns: the node's clock in nanoseconds.
            engine_size: height and width of the network's input.
        """
        self._engine_size = engine_size
        self._pipeline = pipeline
        self._cameras = cameras
        self._settings = settings
        self._now_ns = now_ns
        self._named: set[tuple[str, str]] = set()
        self._lock = Lock()
        self._calls = self._faults = 0
        self._recent: deque[tuple[float, int, float]] = deque()
        self._recent_faults: deque[float] = deque()
        self._last_fault = ''

    def process(self, batch: Mapping[str, Arrival]) -> None:
        """Process the newest frames of some cameras."""
        settings = self._settings()
        frames = [
            frame
            for name, arrival in batch.items()
            if (frame := self._admit(self._cameras[name], arrival, settings))
        ]
        outputs = self._infer([frame for frame in frames if frame.wanted != _INFO_ONLY])
        for frame in frames:
            if frame.wanted == _INFO_ONLY or frame.camera.name in outputs:
                self._publish_or_drop(frame, outputs.get(frame.camera.name), settings)

    def report(self) -> EngineReport:
        """Summarise."""
        with self._lock:
            self._forget()
            sizes = [size for _, size, _ in self._recent]
            return EngineReport(
                calls=self._calls,
                mean_batch=sum(sizes) / len(sizes) if sizes else None,
                call_time=Percentiles.of([seconds for _, _, seconds in self._recent]),
                faults=self._faults,
                recent_faults=len(self._recent_faults),
                last_fault=self._last_fault,
            )

    def _admit(self, camera: Camera, arrival: Arrival, settings: Settings) -> _Frame | None:
        """Judge and decode a frame; what will be dropped is never decoded."""
        wanted = camera.outputs.wanted(settings.publish_always)
        if not wanted:
            return None
        stamp_ns = _nanoseconds(arrival.message.header.stamp)
        age = judge(stamp_ns, self._now_ns(), settings.max_frame_age_ms)
        if age.fault:
            camera.statistics.note_stamp(age.fault)
            self._name_once(camera, 'stamp', age.fault)
        if age.drop:
            camera.statistics.drop(age.drop)
            return None
        try:
            image = decode(arrival.message)
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
        begin = time.monotonic()
        try:
            outputs = self._pipeline.run([frame.image for frame in frames])
        except Exception as error:  # whatever a backend throws: the node lives on
            self._note_fault(frames, error)
            return {}
        now = time.monotonic()
        with self._lock:
            self._calls += 1
            self._recent.append((now, len(frames), now - begin))
            self._forget()
        return {f.camera.name: output for f, output in zip(frames, outputs, strict=True)}

    def _publish_or_drop(
        self, frame: _Frame, output: FrameOutput | None, settings: Settings
    ) -> None:
        try:
            self._publish(frame, output, settings)
        except Exception:  # of the middleware: the node lives on
            if rclpy.ok():  # else the process is about to end, and its publishers are gone
                frame.camera.statistics.drop('publish')
                logger.exception('camera %s: cannot publish', frame.camera.name)

    def _publish(self, frame: _Frame, output: FrameOutput | None, settings: Settings) -> None:
        camera, message = frame.camera, frame.arrival.message
        if output is not None:
            camera.outputs.publish(frame.wanted, message.header, frame.image, output, settings)
        info = camera.input.camera_info
        if 'camera_info' in frame.wanted and info is not None:
            height, width = frame.image.shape[:2]
            size = self._engine_size if settings.output_size == 'engine' else (height, width)
            camera.outputs.publish_camera_info(info, message.header, (height, width), size)
        camera.statistics.process(
            time.monotonic() - frame.arrival.received_at, self._latency(frame, message)
        )

    def _latency(self, frame: _Frame, message: Any) -> float | None:
        """Return the seconds from header stamp to now, where the stamp can be believed."""
        if frame.age is None:
            return None
        return max(0.0, (self._now_ns() - _nanoseconds(message.header.stamp)) / 1e9)

    def _note_fault(self, frames: list[_Frame], error: Exception) -> None:
        with self._lock:
            self._faults += 1
            self._recent_faults.append(time.monotonic())
            self._last_fault = f'{type(error).__name__}: {error}'
            first = self._faults == 1
        for frame in frames:
            frame.camera.statistics.drop('engine')
        # One traceback tells all; the diagnostics count the others.
        if first:
            logger.exception('the engine call failed; %d frames are dropped', len(frames))

    def _name_once(self, camera: Camera, subject: str, text: str) -> None:
        if (camera.name, subject) not in self._named:
            self._named.add((camera.name, subject))
            logger.warning('camera %s: %s (said once; see /diagnostics)', camera.name, text)

    def _forget(self) -> None:
        oldest = time.monotonic() - WINDOW_S
        while self._recent and self._recent[0][0] < oldest:
            self._recent.popleft()
        while self._recent_faults and self._recent_faults[0] < oldest:
            self._recent_faults.popleft()


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)

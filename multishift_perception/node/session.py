# SPDX-License-Identifier: Apache-2.0
"""What exists between configure and cleanup: the engine, the cameras and the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
import logging
import time

import cv2
import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.lifecycle import LifecycleNode

from multishift_perception.errors import MultishiftError
from multishift_perception.frame_tally import Drop
from multishift_perception.node.activity import Stage, Stuck
from multishift_perception.node.arrivals import Arrivals
from multishift_perception.node.camera import Camera
from multishift_perception.node.camera_input import CameraInput
from multishift_perception.node.diagnostics import SILENT_S, CameraState, EngineState, Silence
from multishift_perception.node.engine_restart import EngineRestart
from multishift_perception.node.engine_statistics import STUCK_S, EngineStatistics
from multishift_perception.node.frame_slots import Arrival, FrameSlots
from multishift_perception.node.gpu_health import GpuMonitor
from multishift_perception.node.load import Load
from multishift_perception.node.loaded_engine import LoadedEngine, load_engine
from multishift_perception.node.lookout import Lookout
from multishift_perception.node.mounting import MountingOf, TransformMountings
from multishift_perception.node.parameters import CameraSettings, Settings
from multishift_perception.node.processor import Processor
from multishift_perception.node.publishers import CameraOutputs
from multishift_perception.node.stream_statistics import StreamStatistics
from multishift_perception.node.worker import Worker
from multishift_perception.outputs import OBJECTS, Output
from multishift_perception.pipeline import Pipeline

logger = logging.getLogger(__name__)

# How late a new watcher may be noticed; to look takes some 0.1 ms for six cameras.
_LOOK_EVERY_S = 0.1


class Session:
    """A configured engine with its cameras.

    Threads: the executor's creates and destroys all topics (`update`) and serves the calls of the
    node; the one of `Arrivals` counts frames as they come (`_receive`); the one of `Worker` takes,
    processes and publishes them, and loads the engine anew (`_process`); the one of `Lookout` asks
    who watches (`_look`), and has the executor do what follows.
    """

    def __init__(
        self, node: LifecycleNode, settings: Callable[[], Settings], loaded: LoadedEngine
    ) -> None:
        """Create the topics.

        Args:
            node: the node.
            settings: returns the current settings.
            loaded: the engine, which the session closes.

        Raises:
            MultishiftError: a QoS override has a bad value, or a camera wants tf, which is not
                installed.
        """
        self._node = node
        self._settings = settings
        chosen = settings()
        cv2.setNumThreads(chosen.opencv_threads or -1)  # -1: as many as it takes by itself
        self.engine = loaded.engine
        if not self.engine.manifest.confidence:
            logger.warning(
                'engine %s does not tell the probability of labels, so that there is no '
                'confidence: build it again with `multishift engine build`',
                self.engine.name,
            )
        self._slots = FrameSlots(time.monotonic)
        self._arrivals = Arrivals()
        self._worker: Worker | None = None
        self._cameras: dict[str, Camera] = {}
        self._wanted: dict[str, frozenset[Output]] = {}
        self._lookout: Lookout | None = None
        self._on_change = node.create_guard_condition(self.update)
        self._transforms: TransformMountings | None = None
        try:
            if any(camera.asks_tf for camera in chosen.cameras):
                self._transforms = TransformMountings(node)
            for camera in chosen.cameras:
                self._cameras[camera.name] = self._create_camera(camera)
        except BaseException:
            self.close()
            raise
        self._engine_statistics = EngineStatistics(time.monotonic, loaded.usual_s)
        self.engine.around_call = self._engine_statistics.call
        self._restart = EngineRestart(time.monotonic)
        self._gpu = GpuMonitor.of(self.engine.device)
        self._processor = Processor(
            loaded.pipeline,
            self._cameras,
            settings=settings,
            now_ns=lambda: int(node.get_clock().now().nanoseconds),
            engine_size=self.engine.input_shape[1:],
            call_size=self._call_size,
            statistics=self._engine_statistics,
            clock=time.monotonic,
            restart=self._restart,
            load_anew=self._load_anew,
        )
        self._lookout = Lookout(_LOOK_EVERY_S, self._look)

    @property
    def stuck(self) -> Stuck | None:
        """What the worker does for so long that it must be stuck; None if it is not."""
        present = self._processor.activity.present() if self._worker else None
        if present is None:
            return None
        stage, seconds = present
        limit = self._engine_statistics.stuck_after_s if stage is Stage.ENGINE else STUCK_S
        return Stuck(stage, seconds, limit) if seconds > limit else None

    def activate(self) -> None:
        """Start processing what is watched."""
        # New ones: those of an earlier worker are closed for good.
        self._slots = FrameSlots(time.monotonic)
        self._worker = Worker(
            self._slots,
            self._process,
            call_size=self._call_size,
            max_wait=lambda: self._settings().max_batch_wait_ms / 1000,
        )
        self.update()

    def deactivate(self) -> bool:
        """Stop processing; returns whether it did: a stuck worker cannot be stopped."""
        stopped = self._end_worker()
        if stopped:
            self.update()
        return stopped

    def close(self) -> bool:
        """Destroy the topics and free the engine, but for one that a stuck worker is in.

        Returns:
            Whether all of it is gone.
        """
        if self._lookout is not None:
            self._lookout.close()
        self._node.destroy_guard_condition(self._on_change)
        stopped = self._end_worker()
        if not stopped:
            self._slots.close()  # it ends once it returns
        for camera in self._cameras.values():
            # Nobody is asked who watches: where the process is about to end, that cannot be told.
            if stopped:
                camera.input.watch(images=False, infos=False)
            camera.outputs.destroy()
        if stopped:
            self._cameras.clear()
            if self._transforms is not None:
                self._transforms.close()
                self._transforms = None
            self._arrivals.close()
            self.engine.close()
        return stopped

    def update(self) -> None:
        """Subscribe to what is watched, and to nothing else."""
        # What the next look is compared with, whoever had this one done.
        self._wanted = self._wanted_now()
        for name, camera in self._cameras.items():
            wanted = self._wanted[name] if self._worker else frozenset()
            before = camera.input.is_watched
            infos = bool(wanted & {Output.CALIBRATION, *OBJECTS})
            camera.input.watch(images=bool(wanted), infos=infos)
            if camera.input.is_watched != before:
                camera.statistics.watch(camera.input.is_watched)
        watched = (c.name for c in self._cameras.values() if c.input.is_watched)
        self._slots.expect(frozenset(watched))

    def publish_label_info(self) -> None:
        """Publish the latched class names and threshold of every camera."""
        for camera in self._cameras.values():
            camera.outputs.publish_label_info(self._settings())

    def camera_states(self) -> list[CameraState]:
        """Return what the cameras' statuses are made of."""
        return [self._camera_state(settings) for settings in self._settings().cameras]

    def engine_state(self, state: EngineState, cameras: Sequence[CameraState]) -> EngineState:
        """Return what the engine's status is made of.

        Args:
            state: what the node itself knows of it.
            cameras: of now, by which the load is told.
        """
        report = self._engine_statistics.report()
        rates = [c.report.received_hz for c in cameras if c.report.watched_s is not None]
        sending = [rate for rate in rates if rate]
        return replace(
            state,
            engine=self.engine,
            report=report,
            worker_alive=None if self._worker is None else self._worker.is_alive,
            stuck=self.stuck,
            restart=self._restart.report(),
            load=Load(
                cameras=len(sending),
                demand_hz=sum(sending),
                capacity_hz=report.capacity_hz,
                largest_call=self.engine.batches[-1],
                on_gpu=self.engine.device != 'cpu',
            ),
            gpu=self._gpu.read() if self._gpu else None,
        )

    def _end_worker(self) -> bool:
        if self._worker is not None:
            # A turn that goes well has ended by then.
            patience = 0.0 if self.stuck else self._engine_statistics.stuck_after_s
            if not self._worker.stop(patience):
                return False
            self._worker = None
        return True

    def _call_size(self, waiting: int) -> int:
        """Ask the engine of now, which may be another one later."""
        return self.engine.call_size(waiting)

    def _load_anew(self) -> Pipeline:
        """Replace the engine by one that is loaded afresh; called by the worker's thread."""
        try:
            self.engine.close()  # first: a GPU may not have room for two
        except Exception:  # of a library whose device is gone
            logger.exception('the failed engine cannot be freed')
        loaded = load_engine(self._settings())
        self.engine = loaded.engine
        self.engine.around_call = self._engine_statistics.call
        return loaded.pipeline

    def _wanted_now(self) -> dict[str, frozenset[Output]]:
        always = self._settings().publish_always
        return {name: camera.outputs.wanted(always) for name, camera in self._cameras.items()}

    def _look(self) -> None:
        """See whether somebody began or ceased to watch; called by the lookout's thread."""
        if self._wanted_now() != self._wanted:
            self._on_change.trigger()
        for camera in self._cameras.values():
            camera.outputs.name_mismatches()

    def _create_camera(self, settings: CameraSettings) -> Camera:
        statistics = StreamStatistics(time.monotonic)
        on_arrivals = partial(self._receive, settings.name, statistics)
        try:
            return Camera(
                settings.name,
                CameraInput(self._node, settings, self._arrivals, on_arrivals, statistics.lose),
                CameraOutputs(
                    self._node,
                    settings.name,
                    self.engine.classes,
                    tells_looks=self.engine.look is not None,
                    tells_confidence=self.engine.manifest.confidence,
                    mounting_of=self._mounting_of(settings),
                ),
                statistics,
            )
        except RuntimeError as error:
            if not rclpy.ok():  # the process is about to end, and nothing can be created
                raise
            # rclpy's word for a bad value of a QoS override.
            raise MultishiftError(f'camera {settings.name}: {error}') from error

    def _mounting_of(self, settings: CameraSettings) -> MountingOf:
        if self._transforms is not None and settings.asks_tf:
            return partial(self._transforms.find, settings.ground_frame)
        return lambda frame: settings.mounting

    def _receive(self, camera: str, statistics: StreamStatistics, count: int) -> None:
        """Count frames that have come; called by whoever hears of them, mostly `Arrivals`."""
        statistics.receive(count)
        if superseded := self._slots.put(camera, count):
            statistics.drop(Drop.SUPERSEDED, superseded)

    def _process(self, cameras: Sequence[str]) -> None:
        """Take the newest frames of some cameras, and process them; in the worker's thread."""
        try:
            if turn := self._take(cameras):
                self._processor.process(turn)
        except InvalidHandle:  # the session was closed without it, and its topics are gone
            pass
        except Exception:  # of the middleware: the worker lives on
            if rclpy.ok():  # else the process is about to end, and all that is asked for is gone
                logger.exception('a turn of %s failed', ', '.join(cameras))

    def _take(self, cameras: Sequence[str]) -> dict[str, Arrival]:
        turn = {}
        for name in cameras:
            camera = self._cameras[name]
            with self._processor.activity.during(Stage.WAIT):  # the middleware may never return
                arrival = camera.input.take()
            if arrival:
                turn[name] = arrival
            elif camera.input.is_watched:  # it gave way to one that was taken just as it came
                camera.statistics.drop(Drop.SUPERSEDED)
        return turn

    def _camera_state(self, settings: CameraSettings) -> CameraState:
        camera = self._cameras[settings.name]
        report = camera.statistics.report()
        silent = report.watched_s is not None and report.silent_s >= SILENT_S
        return CameraState(
            name=settings.name,
            topic=camera.input.topic,
            transport=settings.transport,
            active=self._worker is not None,
            report=report,
            counts_lost=camera.input.counts_lost,
            silence=Silence(*camera.input.why_silent()) if silent else None,
        )

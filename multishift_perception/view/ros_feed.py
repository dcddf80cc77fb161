# SPDX-License-Identifier: Apache-2.0
"""Shows what a running node publishes: its outputs while looked at, its diagnostics always."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
import logging
import os
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
from rcl_interfaces.srv import GetParameters, SetParameters
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image

from multishift_perception.classes import CITYSCAPES, SemanticClass, color_table
from multishift_perception.engine.engine import EMBEDDED_BUNDLE
from multishift_perception.engine.manifest import read_manifest
from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.frame_tally import LOST, FrameTally
from multishift_perception.message_types import IMAGE
from multishift_perception.outputs import (
    COVARIATE_SHIFT,
    DIAGNOSTICS,
    PROCESSED_RATE,
    Output,
    camera_status_name,
    engine_status_name,
)
from multishift_perception.overlay import color_labels, draw_score
from multishift_perception.pipeline import anomaly_levels, anomaly_mask
from multishift_perception.regions import Region, find_regions
from multishift_perception.shift import Shift
from multishift_perception.view.board import Board
from multishift_perception.view.feed import CameraState, Level, Notice
from multishift_perception.view.pictures import (
    PictureKind,
    encode_picture,
)

logger = logging.getLogger(__name__)

_OUTPUTS = {
    PictureKind.OVERLAY: Output.OVERLAY_JPEG,
    PictureKind.LABELS: Output.LABELS,
    PictureKind.SCORE: Output.ANOMALY_SCORE,
    PictureKind.MASK: Output.ANOMALY_MASK,
}
# The node sends diagnostics once a second.
_SILENT_S = 4.0
# Whoever comes wakes the thread; who stopped to read a list is noticed so often.
_FOLLOW_S = 0.5
# How often others may have changed parameters, for so long after a page has asked.
_ASK_S, _LOOKED_S = 1.0, 5.0
_ANSWER_S = 3.0
_THRESHOLD = 'anomaly_threshold'
_READ = _THRESHOLD, 'min_anomaly_area', 'engine_bundle'


@dataclass
class _Camera:
    """What is known of a camera, and what is subscribed to of it."""

    name: str
    status: DiagnosticStatus
    subscriptions: dict[Output, Any] = field(default_factory=dict)
    stamp: Time | None = None
    size: tuple[int, int] | None = None
    regions: list[Region] | None = None


class RosFeed:
    """A node's outputs and diagnostics, in a thread and a context of ROS of their own.

    That thread, in `_spin`, has all topics and services. The page's reads what it has noted, and
    leaves changes of the threshold for it in a queue.
    """

    # The node computes and sends the whole score for them.
    lists_are_free = False

    def __init__(
        self, node: str, board: Board, *, bundle: Path | None = None, use_sim_time: bool = False
    ) -> None:
        """Join the ROS graph.

        Args:
            node: the node's full name, with its namespace.
            board: where pictures go.
            bundle: engine bundle with the colours of the classes; None for the node's own, where
                it is on this machine.
            use_sim_time: whether ages are of the time of ``/clock``.

        Raises:
            MultishiftError: ROS does not start, or the bundle is none.
        """
        self._name = '/' + node.strip('/')
        self._board = board
        self._take_classes(
            CITYSCAPES if bundle is None else read_manifest(bundle).semantic_classes
        )
        self._classes_known = bundle is not None
        self._threshold: float | None = None
        self._min_area = 0
        self._cameras: dict[str, _Camera] = {}
        self._engine: DiagnosticStatus | None = None
        # When diagnostics came, parameters were asked for, and a page asked how the node is.
        self._heard = self._asked = self._looked = float('-inf')
        self._is_closing = False
        self._changes: SimpleQueue[tuple[float, Future[None]]] = SimpleQueue()
        self._context = rclpy.Context()
        try:
            rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
            self._node = rclpy.create_node(
                f'multishift_view_{os.getpid()}',
                context=self._context,
                parameter_overrides=[Parameter('use_sim_time', value=use_sim_time)],
            )
        except Exception as error:  # rcl's, whatever is wrong with its environment
            raise MultishiftError(f'ROS does not start: {one_line(error)}') from error
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._node.create_subscription(DiagnosticArray, DIAGNOSTICS, self._read_diagnostics, 10)
        self._getter = self._node.create_client(GetParameters, f'{self._name}/get_parameters')
        self._setter = self._node.create_client(SetParameters, f'{self._name}/set_parameters')
        self._news = self._node.create_guard_condition(lambda: None)
        board.on_change(self._news.trigger)
        self._thread = Thread(target=self._spin, name='ros', daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Leave the ROS graph."""
        self._is_closing = True
        self._news.trigger()
        if self._thread.is_alive():
            self._thread.join(1.0)
        self._executor.shutdown(0.2)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    @property
    def title(self) -> str:
        """The node's name."""
        return self._name

    @property
    def threshold(self) -> float | None:
        """The node's threshold, None until it has told it."""
        return self._threshold

    async def set_threshold(self, value: float) -> None:
        """Set the node's parameter.

        Raises:
            MultishiftError: the node is not there, or refuses.
        """
        done: Future[None] = Future()
        self._changes.put((value, done))
        self._news.trigger()
        try:
            await asyncio.wait_for(asyncio.wrap_future(done), _ANSWER_S)
        except TimeoutError:
            raise MultishiftError(f'{self._name} does not answer: see whether it runs') from None

    def notice(self) -> Notice:
        """Return how the node is."""
        self._looked = monotonic()
        if self._is_silent:
            return Notice(
                Level.STALE, f'nothing on {DIAGNOSTICS} from {self._name}: see whether it runs'
            )
        return _notice(self._engine)

    def cameras(self) -> list[CameraState]:
        """Return how each camera is."""
        return [self._state(camera) for camera in list(self._cameras.values())]

    @property
    def _is_silent(self) -> bool:
        """Whether the node's diagnostics have ceased, or never came."""
        return monotonic() - self._heard > _SILENT_S

    def _state(self, camera: _Camera) -> CameraState:
        is_silent = self._is_silent
        values = {pair.key: pair.value for pair in camera.status.values}
        tally = FrameTally.read(values)
        dropped = dict(tally.dropped)
        if tally.lost is not None:
            dropped[LOST] = tally.lost
        now, stamp = self._node.get_clock().now(), camera.stamp
        return CameraState(
            camera.name,
            Notice(Level.STALE, 'nothing is heard of it') if is_silent else _notice(camera.status),
            rate=0.0 if is_silent else float(values.get(PROCESSED_RATE, 0)),
            age=(now - stamp).nanoseconds / 1e9 if stamp and camera.subscriptions else None,
            received=tally.received,
            processed=tally.processed,
            dropped=dropped,
            size=camera.size,
            regions=camera.regions,
            shift=Shift(_number(values.get(COVARIATE_SHIFT, '')), None),
        )

    def _spin(self) -> None:
        while not self._is_closing:
            self._executor.spin_once(timeout_sec=_FOLLOW_S)
            for camera in list(self._cameras.values()):
                self._follow(camera)
            self._send_changes()
            now = monotonic()
            if now - self._looked < _LOOKED_S and now - self._asked > _ASK_S:
                self._asked = now
                self._ask_parameters()

    def _read_diagnostics(self, message: DiagnosticArray) -> None:
        own = self._name[1:]
        first = camera_status_name(own, '')
        for status in message.status:
            if status.name.startswith(first):
                name = status.name.removeprefix(first)
                self._cameras.setdefault(name, _Camera(name, status)).status = status
            elif status.name == engine_status_name(own):
                self._engine = status
                self._heard = monotonic()

    def _follow(self, camera: _Camera) -> None:
        """Subscribe to what somebody looks at, and to nothing else."""
        wanted = {_OUTPUTS[kind] for kind in self._board.wanted(camera.name)}
        if self._board.wants_list(camera.name):
            wanted.add(Output.ANOMALY_SCORE)
        else:
            camera.regions = None
        for output in camera.subscriptions.keys() - wanted:
            self._node.destroy_subscription(camera.subscriptions.pop(output))
        for output in wanted - camera.subscriptions.keys():
            camera.stamp = None
            topic = output.topic_of(camera.name, self._name)
            camera.subscriptions[output] = self._node.create_subscription(
                Image if output.kind == IMAGE else CompressedImage,
                topic,
                self._show(camera, output),
                QoSProfile(depth=1, reliability=self._offered(topic)),
            )

    def _offered(self, topic: str) -> ReliabilityPolicy:
        """Return how reliable a topic is: `qos_overrides` of the node may change that."""
        offers = self._node.get_publishers_info_by_topic(topic)
        is_reliable = all(
            offer.qos_profile.reliability is ReliabilityPolicy.RELIABLE for offer in offers
        )
        return ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT

    def _show(self, camera: _Camera, output: Output) -> Callable[[Any], None]:
        def show(message: Any) -> None:
            camera.stamp = Time.from_msg(message.header.stamp, self._node.get_clock().clock_type)
            match output:
                case Output.OVERLAY_JPEG:
                    self._board.show(camera.name, PictureKind.OVERLAY, bytes(message.data))
                case Output.LABELS:
                    drawn = color_labels(_pixels(message, np.uint8), self._colors)
                    self._board.show(camera.name, PictureKind.LABELS, encode_picture(drawn))
                case Output.ANOMALY_MASK:
                    drawn = _pixels(message, np.uint8)
                    self._board.show(camera.name, PictureKind.MASK, encode_picture(drawn))
                case Output.ANOMALY_SCORE:
                    self._show_score(camera, _pixels(message, np.float32))

        return show

    def _show_score(self, camera: _Camera, score: Any) -> None:
        if PictureKind.SCORE in self._board.wanted(camera.name):
            picture = encode_picture(draw_score(score))
            self._board.show(camera.name, PictureKind.SCORE, picture)
        if self._board.wants_list(camera.name) and self._threshold is not None:
            levels = anomaly_levels(score)
            mask = anomaly_mask(levels, self._threshold, self._min_area)
            camera.size = score.shape[1], score.shape[0]
            camera.regions = find_regions(mask, levels)

    def _send_changes(self) -> None:
        """Send the newest value; whoever asked for an older one is told what came of it."""
        asked: list[Future[None]] = []
        value = 0.0
        try:
            while True:
                value, done = self._changes.get_nowait()
                asked.append(done)
        except Empty:
            pass
        if not asked:
            return
        if not self._setter.service_is_ready():
            _finish(asked, f'{self._name} is not there: see whether it runs')
            return
        parameter = Parameter(_THRESHOLD, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])

        def tell(answer: Any) -> None:
            result = answer.result().results[0]
            if result.successful:
                self._threshold = value
            _finish(asked, '' if result.successful else f'{self._name}: {result.reason}')

        self._setter.call_async(request).add_done_callback(tell)

    def _ask_parameters(self) -> None:
        if not self._getter.service_is_ready():
            return

        def read(answer: Any) -> None:
            values = [parameter_value_to_python(value) for value in answer.result().values]
            if len(values) != len(_READ) or None in values:  # a node of another kind
                return
            self._threshold, self._min_area, bundle = values
            if not self._classes_known:
                self._classes_known = True
                self._read_classes(Path(bundle).expanduser() if bundle else EMBEDDED_BUNDLE)

        request = GetParameters.Request(names=list(_READ))
        self._getter.call_async(request).add_done_callback(read)

    def _take_classes(self, classes: Sequence[SemanticClass]) -> None:
        self.classes = classes
        self._colors = color_table(classes)

    def _read_classes(self, bundle: Path) -> None:
        try:
            self._take_classes(read_manifest(bundle).semantic_classes)
        except MultishiftError as error:  # the node may run on another machine
            logger.warning("labels have Cityscapes' colours; --engine gives others: %s", error)


def _finish(asked: list[Future[None]], fault: str) -> None:
    """Tell those who asked for a change what came of it; nothing of ``fault`` is success."""
    for done in asked:
        with suppress(InvalidStateError):  # whoever asked does not wait any more
            if fault:
                done.set_exception(MultishiftError(fault))
            else:
                done.set_result(None)


def _notice(status: DiagnosticStatus | None) -> Notice:
    if status is None:
        return Notice(Level.STALE, 'nothing is known of it yet')
    return Notice(Level(int.from_bytes(status.level, 'little')), status.message)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # nothing is known
        return None


def _pixels(message: Any, kind: Any) -> Any:
    """Return the pixels ``[h,w]`` of an Image of the node, which pads no rows."""
    return np.frombuffer(message.data, kind).reshape(message.height, message.width)

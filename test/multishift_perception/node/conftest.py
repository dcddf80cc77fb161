# SPDX-License-Identifier: Apache-2.0
"""A real node in its own process, and somebody to talk to it over DDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
import importlib.util
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec('rclpy') is None:  # the package's other tests need no ROS
    collect_ignore_glob = ['test_*.py']
else:
    from builtin_interfaces.msg import Time
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
    from lifecycle_msgs.srv import ChangeState, GetState
    from rcl_interfaces.msg import Parameter, SetParametersResult
    from rcl_interfaces.srv import SetParameters
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter as RclpyParameter
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

# What the node uses of vision_msgs 4.1.1, which has no wheel. A test holds the types' hashes.
VISION_MSGS = {
    'Point2D': 'float64 x\nfloat64 y',
    'Pose2D': 'vision_msgs/Point2D position\nfloat64 theta',
    'BoundingBox2D': 'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y',
    'ObjectHypothesis': 'string class_id\nfloat64 score',
    'ObjectHypothesisWithPose': 'vision_msgs/ObjectHypothesis hypothesis\n'
    'geometry_msgs/PoseWithCovariance pose',
    'Detection2D': 'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n'
    'vision_msgs/BoundingBox2D bbox\nstring id',
    'Detection2DArray': 'std_msgs/Header header\nvision_msgs/Detection2D[] detections',
    'VisionClass': 'uint16 class_id\nstring class_name',
    'LabelInfo': 'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold',
}

NAME = '/multishift_perception'
TIMEOUT_S = 60.0  # a limit for events, which nobody waits for on a machine with time


class NodeProcess:
    """The node, started as users start it."""

    def __init__(self, arguments: list[str], log: Path, program: Path | None, domain: int) -> None:
        self._log = log
        self._file = log.open('w')
        started = [str(program)] if program else ['-m', 'multishift_perception.node.main']
        command = [sys.executable, *started, '--ros-args']
        self.process = subprocess.Popen(
            [*command, *arguments],
            env={
                **os.environ,
                'ROS_DOMAIN_ID': str(domain),
                'ROS_LOG_DIR': str(log.parent),
            },
            stdout=self._file,
            stderr=subprocess.STDOUT,
        )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def segments(self) -> set[Path]:
        """The shared memory that is the process's own: it holds its lock."""
        found = set()
        for handle in self.handles():
            with suppress(OSError):  # it was closed meanwhile
                if lock := re.fullmatch(
                    '(/dev/shm/fast(?:rtps|dds)_[0-9a-f]{16})_el', os.readlink(handle)
                ):
                    found.add(Path(lock[1]))
        return found

    def handles(self) -> list[Path]:
        """What the process has open; nothing once it has ended."""
        try:
            return [*Path(f'/proc/{self.process.pid}/fd').iterdir()]
        except OSError:
            return []

    def wait(self) -> int:
        return self.process.wait(TIMEOUT_S)

    def end_under_load(self, number: int, peer: Peer, send: Callable[[], Any]) -> None:
        """End it by a signal while frames come; it ends in peace and leaves nothing."""
        segments = self.segments()
        self.process.send_signal(number)

        def has_ended() -> bool:
            send()
            return not self.is_alive

        peer.spin_until(has_ended)
        assert self.wait() == 0, self.log
        assert 'Traceback' not in self.log
        assert segments
        assert not [segment for segment in segments if segment.exists()]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            return self.wait()
        finally:
            self.process.kill()
            self._file.close()


class Peer:
    """The other end of the node's topics and services."""

    def __init__(self, domain: int) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node('peer', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publishers: dict[str, Any] = {}
        self._clients: dict[tuple[Any, str, str], Any] = {}
        self.statuses: dict[str, DiagnosticStatus] = {}
        self._statuses_since_ns = 0
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._store_statuses, 10)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _store_statuses(self, message: DiagnosticArray, info: Any) -> None:
        if info['source_timestamp'] >= self._statuses_since_ns:
            self.statuses.update({status.name: status for status in message.status})

    def forget_statuses(self) -> None:
        """Know only those that are sent from now on, and not those that are under way."""
        self.statuses.clear()
        self._statuses_since_ns = time.time_ns()

    def spin_until(self, done: Callable[[], Any], timeout: float = TIMEOUT_S) -> Any:
        """Spin until ``done`` returns something true, and return that."""
        if result := self._spin_for(timeout, done):
            return result
        raise AssertionError(f'nothing came within {timeout} s')

    def spin(self, seconds: float) -> None:
        self._spin_for(seconds, lambda: False)

    def _spin_for(self, seconds: float, done: Callable[[], Any]) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if result := done():
                return result
            self._executor.spin_once(timeout_sec=0.02)
        return None

    def listen(self, topic: str, kind: Any, *, reliable: bool = True) -> Inbox:
        return Inbox(self, topic, kind, reliable)

    def publisher(self, topic: str, kind: Any) -> Any:
        """A matched publisher."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, 1)
        publisher = self._publishers[topic]
        self.spin_until(publisher.get_subscription_count)
        return publisher

    def now(self) -> Time:
        return self.node.get_clock().now().to_msg()

    def ask(self, topic: str, message: Any, inbox: Inbox, info: CameraInfo | None = None) -> Any:
        """Publish a frame with a fresh stamp until its output comes, and return that.

        It is that of the last one sent, so that none of them is under way any more, whose output
        would come to whoever listens next.

        With ``info`` beside each frame, as cameras do: one that is sent before the node knows its
        sender is lost.
        """
        publisher = self.publisher(topic, type(message))
        beside = topic.rpartition('/')[0] + '/camera_info'
        patience = 0.05

        def answer() -> Any:
            stamp = message.header.stamp
            return next((m for m in inbox.messages if m.header.stamp == stamp), None)

        def answered() -> Any:
            nonlocal patience
            message.header.stamp = self.now()
            if info is not None:
                self.publisher(beside, CameraInfo).publish(info)
            publisher.publish(message)
            self._spin_for(patience, answer)
            patience *= 2  # until it suffices for the slowest node
            return answer()

        return self.spin_until(answered)

    def client(self, kind: Any, service: str, node: str = NAME) -> Any:
        """A client whom the node knows: an answer to one whom it does not is lost.

        A server waits 0.1 s for whom it answers to be discovered. A participant discovers those of
        another in the order in which they were made: whoever is answered is known, and so are all
        that are older.
        """
        client = self.node.create_client(kind, f'{node}/{service}')
        younger = self.node.create_client(GetState, f'{node}/get_state')
        for one in (client, younger):
            self.spin_until(one.service_is_ready)
        asked: list[Any] = []

        def is_answered() -> bool:
            return any(future.done() for future in asked)

        def is_known() -> bool:
            asked.append(younger.call_async(GetState.Request()))
            self._spin_for(0.2 * 2 ** len(asked), is_answered)
            return is_answered()

        self.spin_until(is_known)
        self.node.destroy_client(younger)
        return client

    def call(self, kind: Any, service: str, request: Any, node: str = NAME) -> Any:
        if (kind, service, node) not in self._clients:
            self._clients[kind, service, node] = self.client(kind, service, node)
        future = self._clients[kind, service, node].call_async(request)
        self.spin_until(future.done)
        return future.result()

    def see_off(self, node: str = NAME) -> None:
        """Wait until nothing is seen of a node that has ended, before another has its name.

        What is asked of the new one would go to the old one alone.
        """
        for key in [key for key in self._clients if key[2] == node]:
            self.node.destroy_client(self._clients.pop(key))
        self.spin_until(lambda: self.node.count_services(f'{node}/get_state') == 0)
        self.forget_statuses()

    def set_parameter(self, name: str, value: Any, node: str = NAME) -> SetParametersResult:
        parameter: Parameter = RclpyParameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, 'set_parameters', request, node).results[0]

    def change_state(self, transition: int, node: str = NAME) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition
        return bool(self.call(ChangeState, 'change_state', request, node).success)

    def state(self, node: str = NAME) -> str:
        return str(self.call(GetState, 'get_state', GetState.Request(), node).current_state.label)

    def status(
        self, part: str, holds: Callable[[Any, dict[str, str]], bool], node: str = NAME
    ) -> Any:
        """Wait for a diagnostic status of which ``holds`` is true."""
        seen: list[Any] = []

        def found() -> Any:
            status = self.statuses.get(f'{node[1:]}: {part}')
            if status is None:
                return None
            seen[:] = [status]
            values = {pair.key: pair.value for pair in status.values}
            return status if holds(status, values) else None

        try:
            return self.spin_until(found)
        except AssertionError as error:
            raise AssertionError(f'last status of {part}: {seen}') from error


class Inbox:
    """The messages of one topic, while the block lasts."""

    def __init__(self, peer: Peer, topic: str, kind: Any, reliable: bool) -> None:
        self.messages: list[Any] = []
        self._peer = peer
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=10, reliability=policy)
        self._subscription = peer.node.create_subscription(kind, topic, self.messages.append, qos)

    def __enter__(self) -> Inbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._peer.node.destroy_subscription(self._subscription)


def filled(color: tuple[int, int, int], *, height: int = 48, width: int = 64) -> Any:
    """An rgb8 frame of one colour."""
    pixels = np.full((height, width, 3), color, np.uint8)
    message = Image(height=height, width=width, encoding='rgb8', step=width * 3)
    message.header = Header(frame_id='front_optical')
    message.data.frombytes(pixels.tobytes())
    return message


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts a node or talks to one."""
    for item in items:
        if {'peer', 'run_here', 'start_node'} & set(getattr(item, 'fixturenames', ())):
            item.add_marker(pytest.mark.ros)


@pytest.fixture(scope='session', name='filled')
def filled_fixture() -> Callable[..., Any]:
    return filled


@pytest.fixture(scope='session', autouse=True)
def this_host_only() -> Iterator[None]:
    """Keep peers and nodes off the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        yield


@pytest.fixture(scope='session')
def start_node(
    tmp_path_factory: pytest.TempPathFactory, ros_domain: int
) -> Callable[..., NodeProcess]:
    def start(
        program: Path | None = None, remaps: Sequence[str] = (), **parameters: Any
    ) -> NodeProcess:
        """Start the node; ``program`` runs its ``main`` with something changed."""
        arguments = [('-p', f'{name}:={value}') for name, value in parameters.items()]
        arguments += [('-r', remap) for remap in remaps]
        log = tmp_path_factory.mktemp('node') / 'log.txt'
        words = [word for pair in arguments for word in pair]
        return NodeProcess(words, log, program, ros_domain)

    return start


@pytest.fixture(scope='module')
def peer(ros_domain: int) -> Iterator[Peer]:
    peer = Peer(ros_domain)
    yield peer
    peer.close()


@pytest.fixture(scope='session')
def vision_definitions() -> dict[str, str]:
    """The definitions of the messages of vision_msgs that the node uses, by name."""
    return VISION_MSGS


@pytest.fixture(scope='session')
def vision_msgs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The classes of vision_msgs: where it is not installed, made by ROS's own generator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('ROS_PYTHON_CHECK_FIELDS', '1')
        if importlib.util.find_spec('vision_msgs') is None:
            patch.setenv('AMENT_PREFIX_PATH', sys.prefix, prepend=os.pathsep)
            patch.syspath_prepend(generate_vision_msgs(tmp_path_factory.mktemp('vision_msgs')))
        before = set(sys.modules)
        yield importlib.import_module('vision_msgs.msg')
        for name in set(sys.modules) - before:
            if name.startswith('vision_msgs'):
                del sys.modules[name]


def generate_vision_msgs(folder: Path) -> Path:
    """Write the package's classes; their setters check types, and nothing can be sent."""
    from rosidl_generator_py.cli import GeneratePython

    (folder / 'msg').mkdir()
    for name, definition in VISION_MSGS.items():
        (folder / f'msg/{name}.msg').write_text(definition)
    package = folder / 'python/vision_msgs'
    package.mkdir(parents=True)
    generator = GeneratePython('py', typesupport_implementations=['rosidl_typesupport_c'])
    files = [f'{folder}:msg/{name}.msg' for name in VISION_MSGS]
    generator.generate('vision_msgs', files, [], package)
    return package.parent

"""Reading and writing of rosbag2 bags without ROS: thin helpers over ``rosbags``.

A bag that we write is one self-contained ``.mcap`` file, which ``ros2 bag play``, ``rosbags`` and
Foxglove open as it is. The same messages give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, ReaderError, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from multishift_perception import files
from multishift_perception.errors import MultishiftError

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
STRING = 'std_msgs/msg/String'

# Ground truth topics, below the namespace of their camera.
TRUTH_LABELS = '/ground_truth/labels'
TRUTH_CONDITION = '/ground_truth/condition'

# Stamp of the first frame of bags made here: fixed, so that a bag depends on its content only.
EPOCH_NS = 1_767_225_600 * 1_000_000_000  # 2026-01-01 00:00 UTC

# Image topics that hold the ground truth or the node's own outputs, not what a camera saw.
_NOT_CAMERAS = ('labels', 'anomaly_mask', 'anomaly_score', 'overlay')

_TYPES = get_typestore(Stores.ROS2_JAZZY)


class BagReader:
    """A bag opened for reading: a ``.mcap`` or ``.db3`` file, or a rosbag2 directory.

    Use as a context manager.

    Raises:
        MultishiftError: The bag is missing, cut short, damaged or of another format.
    """

    def __init__(self, path: Path) -> None:
        """Remember where the bag is; entering the context opens it."""
        self.path = path

    def __enter__(self) -> Self:
        """Open the bag and read its index."""
        if not self.path.exists():
            raise MultishiftError(f'{self.path}: no such bag; check the path')
        if self.path.is_dir() and not (self.path / 'metadata.yaml').exists():
            raise MultishiftError(
                f'{self.path}: a bag directory without metadata.yaml; pass the bag file inside it,'
                f' or run: ros2 bag reindex {self.path}'
            )
        if self.path.is_file() and self.path.suffix not in ('.mcap', '.db3'):
            raise MultishiftError(
                f'{self.path}: not a rosbag2 bag; expected FILE.mcap, FILE.db3 or a bag directory'
            )
        try:
            self._reader = Reader(self.path)
            self._reader.open()
        except Exception as error:  # the parser of a damaged file may raise anything
            raise self._damaged(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the bag."""
        self._reader.close()

    @property
    def topics(self) -> dict[str, str]:
        """Message type (``package/msg/Name``) of every topic, in order of topic name."""
        pairs = ((c.topic, c.msgtype) for c in self._reader.connections)
        return dict(sorted(pairs))

    @property
    def duration(self) -> float:
        """Seconds between the first and the last message; 0 for an empty bag."""
        # The reader counts to one nanosecond past the last message.
        return max(0, self._reader.duration - 1) / 1e9

    def count(self, topics: Sequence[str] | None = None) -> int:
        """Return the number of messages on ``topics`` (default: all)."""
        return sum(
            c.msgcount for c in self._reader.connections if topics is None or c.topic in topics
        )

    def messages(self, topics: Sequence[str] | None = None) -> Iterator[tuple[str, Any, int]]:
        """Yield ``(topic, message, bag time in ns)`` in order of time.

        Args:
            topics: Only these (default: all). An unknown topic is an error.

        Raises:
            MultishiftError: Unknown topic, unknown message type, or a damaged bag.
        """
        for topic, kind, data, time in self.raw_messages(topics):
            if kind not in _TYPES.types:
                raise MultishiftError(
                    f'{self.path}: {topic} has type {kind}, which this tool does not read'
                )
            try:
                message = _TYPES.deserialize_cdr(data, kind)
            except Exception as error:
                raise self._damaged(error) from error
            yield topic, message, time

    def raw_messages(
        self, topics: Sequence[str] | None = None
    ) -> Iterator[tuple[str, str, bytes, int]]:
        """Yield ``(topic, type, CDR bytes, bag time in ns)`` in order of time."""
        connections = self._connections(topics)
        if not connections:  # rosbags would take an empty choice for all
            return
        stream = self._reader.messages(connections)
        while True:
            try:
                connection, time, data = next(stream)
            except StopIteration:
                return
            except Exception as error:
                raise self._damaged(error) from error
            yield connection.topic, connection.msgtype, bytes(data), time

    def _connections(self, topics: Sequence[str] | None) -> list[Connection]:
        if topics is None:
            return list(self._reader.connections)
        if unknown := sorted(set(topics) - set(self.topics)):
            raise MultishiftError(
                f'{self.path}: no topic {unknown[0]!r}; the bag has: {", ".join(self.topics)}'
            )
        return [c for c in self._reader.connections if c.topic in topics]

    def _damaged(self, error: Exception) -> MultishiftError:
        reason = ' '.join(str(error).split()) or type(error).__name__
        if isinstance(error, PermissionError):
            return MultishiftError(f'{self.path}: not readable ({reason}); check its permissions')
        what = reason if isinstance(error, ReaderError) else f'{type(error).__name__}: {reason}'
        return MultishiftError(
            f'{self.path}: the bag is cut short or damaged ({what}); copy it again from its source'
        )


class BagWriter:
    """A new MCAP bag; it appears at ``path``, whole, when the context ends without an error.

    All times are in nanoseconds. Stamped messages are written with a bag time equal to their
    header's stamp.

    Raises:
        MultishiftError: ``path`` does not end in ``.mcap``, or is a directory.
    """

    def __init__(self, path: Path) -> None:
        """Check the path; entering the context creates the bag."""
        if path.suffix != '.mcap':
            raise MultishiftError(f'{path}: the name of a bag to write must end in .mcap')
        if path.is_dir():
            raise MultishiftError(f'{path}: is a directory; name a file to write')
        self.path = path
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> Self:
        """Begin the bag in a hidden place beside ``path``."""
        self._scope = _new_bag(self.path)
        try:
            self._writer = self._scope.__enter__()
        except OSError as error:
            raise MultishiftError(f'{self.path}: cannot be written ({error.strerror})') from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the bag and move it into place, or drop it after an error."""
        self._scope.__exit__(kind, error, trace)

    def image(
        self, topic: str, stamp_ns: int, frame_id: str, pixels: NDArray[np.uint8 | np.float32]
    ) -> None:
        """Write an Image: ``uint8 [H,W,3]`` as rgb8, ``uint8 [H,W]`` as mono8, float as 32FC1."""
        encoding = {('uint8', 3): 'rgb8', ('uint8', 2): 'mono8', ('float32', 2): '32FC1'}[
            pixels.dtype.name, pixels.ndim
        ]
        pixels = np.ascontiguousarray(pixels)
        height, width = pixels.shape[:2]
        image = _TYPES.types[IMAGE](
            header=_header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=pixels.reshape(-1).view(np.uint8),
        )
        self._write(topic, IMAGE, image, stamp_ns)

    def camera_info(
        self,
        topic: str,
        stamp_ns: int,
        frame_id: str,
        *,
        width: int,
        height: int,
        focal: tuple[float, float] | None = None,
        centre: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Write a CameraInfo of a pinhole camera without distortion.

        Args:
            topic: Topic, by convention ``camera_info`` beside the image.
            stamp_ns: Stamp of the image that it belongs to.
            frame_id: Optical frame of the camera.
            width: Width of the image in pixels.
            height: Height of the image in pixels.
            focal: Focal lengths (fx, fy) in pixels; None means uncalibrated, which REP 104
                expresses by a matrix K of zeros.
            centre: Principal point (cx, cy) in pixels.
        """
        calibrated = focal is not None
        (fx, fy), (cx, cy) = focal or (0.0, 0.0), centre
        one = float(calibrated)
        roi = _TYPES.types['sensor_msgs/msg/RegionOfInterest'](
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        info = _TYPES.types[CAMERA_INFO](
            header=_header(stamp_ns, frame_id),
            height=height,
            width=width,
            distortion_model='plumb_bob' if calibrated else '',
            d=np.zeros(5 if calibrated else 0),
            k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, one]),
            r=np.eye(3).reshape(-1) * one,
            p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, one, 0]),
            binning_x=0,
            binning_y=0,
            roi=roi,
        )
        self._write(topic, CAMERA_INFO, info, stamp_ns)

    def string(self, topic: str, time_ns: int, text: str) -> None:
        """Write a String."""
        self._write(topic, STRING, _TYPES.types[STRING](data=text), time_ns)

    def raw(self, topic: str, kind: str, cdr: bytes, time_ns: int) -> None:
        """Write a message that is already serialised; ``kind`` is ``package/msg/Name``."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=_TYPES)
        self._writer.write(self._connections[topic], time_ns, cdr)

    def _write(self, topic: str, kind: str, message: object, time_ns: int) -> None:
        self.raw(topic, kind, bytes(_TYPES.serialize_cdr(message, kind)), time_ns)


def image_topics(reader: BagReader) -> dict[str, str]:
    """Return the topics that hold what a camera saw, with their type.

    Ground truth and the node's own outputs are left out, and so is a compressed topic whose raw
    twin is in the bag.
    """
    kinds = {t: k for t, k in reader.topics.items() if k in (IMAGE, COMPRESSED_IMAGE)}
    return {
        topic: kind
        for topic, kind in kinds.items()
        if raw_topic(topic).rsplit('/', 1)[-1] not in _NOT_CAMERAS
        and (raw_topic(topic) == topic or raw_topic(topic) not in kinds)
    }


def raw_topic(topic: str) -> str:
    """Return an image topic's name without the transport: ``/a/image_raw/compressed`` and raw."""
    return topic.removesuffix('/compressed')


def namespace_of(topic: str) -> str:
    """Return the namespace of an image topic: ``/front`` for ``/front/image_raw``."""
    return raw_topic(topic).rpartition('/')[0]


def camera_of(topic: str) -> str:
    """Return the camera's name: ``front`` for ``/front/image_raw``, ``image`` for ``/image``."""
    return (namespace_of(topic) or raw_topic(topic)).strip('/')


def stamp_ns(message: Any) -> int:
    """Return the header stamp of a stamped message in nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def mono8(message: Any, topic: str) -> NDArray[np.uint8]:
    """Return the pixels ``uint8 [h,w]`` of a mono8 Image.

    Raises:
        MultishiftError: It has another encoding, or its fields contradict each other.
    """
    height, width, step = message.height, message.width, message.step
    if message.encoding not in ('mono8', '8UC1'):
        raise MultishiftError(f'{topic}: encoding is {message.encoding!r}; expected mono8')
    if step < width or len(message.data) != step * height:
        raise MultishiftError(
            f'{topic}: {len(message.data)} bytes do not make {width} x {height} pixels'
        )
    pixels: NDArray[np.uint8] = np.frombuffer(message.data, np.uint8)
    return pixels.reshape(height, step)[:, :width]


@contextmanager
def _new_bag(path: Path) -> Iterator[Writer]:
    with files.replacing(path) as fresh:
        # rosbags names the inner file after its directory and stores that name in the bag: a
        # fixed one keeps the bytes independent of ``path`` (readers go by the real name).
        folder = fresh.with_name('bag')
        with Writer(
            folder, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin.MCAP
        ) as writer:
            yield writer
        os.replace(folder / 'bag.mcap', fresh)


def _header(stamp: int, frame_id: str) -> Any:
    sec, nanosec = divmod(stamp, 1_000_000_000)
    time = _TYPES.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    return _TYPES.types['std_msgs/msg/Header'](stamp=time, frame_id=frame_id)

# SPDX-License-Identifier: Apache-2.0
"""Writing of bags: one self-contained ``.mcap`` file, which every ROS 2 tool opens as it is.

The same messages give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from multishift_perception import files
from multishift_perception.bags.types import TYPES
from multishift_perception.errors import MultishiftError
from multishift_perception.message_types import CAMERA_INFO, IMAGE, STRING

# Stamp of the first frame of bags made here: fixed, so that a bag depends on its content only.
EPOCH_NS = 1_767_225_600 * 1_000_000_000  # 2026-01-01 00:00 UTC

_LATCHED = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=QosTime(0, 0),
    lifespan=QosTime(0, 0),
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=QosTime(0, 0),
    avoid_ros_namespace_conventions=False,
)


class BagWriter:
    """A new MCAP bag; it appears at ``path``, whole, when the context ends without an error.

    All times are in nanoseconds. Stamped messages are written with a bag time equal to their
    header's stamp.

    Raises:
        MultishiftError: ``path`` does not end in ``.mcap``, or is a directory.
    """

    def __init__(self, path: Path, *, compressed: bool = False) -> None:
        """Check the path; entering the context creates the bag.

        Args:
            path: the bag.
            compressed: whether its chunks are compressed (zstd), which ROS 2 tools open as well.
        """
        if path.suffix != '.mcap':
            raise MultishiftError(f'{path}: the name of a bag to write must end in .mcap')
        if path.is_dir():
            raise MultishiftError(f'{path}: is a directory; name a file to write')
        self.path = path
        self._compressed = compressed
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> Self:
        """Begin the bag in a hidden place beside ``path``."""
        self._scope = _new_bag(self.path, self._compressed)
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
        self,
        topic: str,
        stamp_ns: int,
        frame_id: str,
        pixels: NDArray[np.uint8] | NDArray[np.float32],
        time_ns: int | None = None,
    ) -> None:
        """Write an Image: ``uint8 [H,W,3]`` as rgb8, ``uint8 [H,W]`` as mono8, float as 32FC1.

        Args:
            topic: its topic.
            stamp_ns: header stamp.
            frame_id: of the header.
            pixels: ``[H,W]`` or ``[H,W,3]``.
            time_ns: bag time; None: the stamp.
        """
        encoding = {('uint8', 3): 'rgb8', ('uint8', 2): 'mono8', ('float32', 2): '32FC1'}[
            pixels.dtype.name, pixels.ndim
        ]
        rows: NDArray[Any] = np.ascontiguousarray(pixels)
        height, width = rows.shape[:2]
        image = TYPES.types[IMAGE](
            header=header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=rows.strides[0],
            data=rows.reshape(-1).view(np.uint8),
        )
        self.message(topic, IMAGE, image, stamp_ns if time_ns is None else time_ns)

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
            topic: topic, by convention ``camera_info`` beside the image.
            stamp_ns: stamp of the image that it belongs to.
            frame_id: optical frame of the camera.
            width: width of the image in pixels.
            height: height of the image in pixels.
            focal: focal lengths (fx, fy) in pixels; None means uncalibrated, which REP 104
                expresses by a matrix K of zeros.
            centre: principal point (cx, cy) in pixels.
        """
        calibrated = focal is not None
        (fx, fy), (cx, cy) = focal or (0.0, 0.0), centre
        one = float(calibrated)
        roi = TYPES.types['sensor_msgs/msg/RegionOfInterest'](
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        info = TYPES.types[CAMERA_INFO](
            header=header(stamp_ns, frame_id),
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
        self.message(topic, CAMERA_INFO, info, stamp_ns)

    def string(self, topic: str, time_ns: int, text: str) -> None:
        """Write a String."""
        self.message(topic, STRING, TYPES.types[STRING](data=text), time_ns)

    def message(
        self, topic: str, kind: str, message: object, time_ns: int, *, latched: bool = False
    ) -> None:
        """Write a message of ``bags.types``; see ``raw``."""
        self.raw(topic, kind, bytes(TYPES.serialize_cdr(message, kind)), time_ns, latched=latched)

    def raw(
        self, topic: str, kind: str, cdr: bytes, time_ns: int, *, latched: bool = False
    ) -> None:
        """Write a message that is already serialised.

        Args:
            topic: its topic.
            kind: its type, ``package/msg/Name``.
            cdr: the message.
            time_ns: bag time.
            latched: whether a player is to keep the topic's last message for who comes late.
        """
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=TYPES, offered_qos_profiles=[_LATCHED] if latched else []
            )
        self._writer.write(self._connections[topic], time_ns, cdr)


@contextmanager
def _new_bag(path: Path, compressed: bool) -> Iterator[Writer]:
    with files.replacing(path) as fresh:
        # rosbags names the inner file after its directory and stores that name in the bag: a
        # fixed one keeps the bytes independent of ``path`` (readers go by the real name).
        folder = fresh.with_name('bag')
        made = Writer(folder, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin.MCAP)
        if compressed:
            made.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with made as writer:
            writer.set_custom_data(*files.WRITTEN_BY)
            yield writer
        os.replace(folder / 'bag.mcap', fresh)


def header(stamp: int, frame_id: str) -> Any:
    """Return a ``std_msgs/msg/Header`` with a stamp in nanoseconds."""
    sec, nanosec = divmod(stamp, 1_000_000_000)
    time = TYPES.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    return TYPES.types['std_msgs/msg/Header'](stamp=time, frame_id=frame_id)

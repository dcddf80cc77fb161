# SPDX-License-Identifier: Apache-2.0
"""Outputs as a bag: what the node would have published for the frames of another bag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from multishift_perception import bags
from multishift_perception.arrays import Bytes
from multishift_perception.bags import BagReader, BagWriter
from multishift_perception.bags.storage import RawMessage
from multishift_perception.bags.truth_join import BagFrame
from multishift_perception.bags.types import TYPES
from multishift_perception.classes import SemanticClass, color_table
from multishift_perception.errors import MultishiftError
from multishift_perception.images.codec import JPEG_FORMAT, encode_jpeg
from multishift_perception.message_types import (
    COMPRESSED_IMAGE,
    DIAGNOSTIC_ARRAY,
    FLOAT32,
    LABEL_INFO,
)
from multishift_perception.outputs import NODE, Output, shift_status_name
from multishift_perception.overlay import ALPHA, draw_overlay
from multishift_perception.pipeline import FrameOutput, score_unit
from multishift_perception.shift import Shift, ShiftMeter, status_of


class Recording:
    """A bag of the node's topics and types, but for ``overlay``, whose JPEG is in it, and objects.

    Each output has the header of its frame, unchanged, and the frame's bag time. Calibrations are
    those of the frames, which the outputs have the size of. The frames themselves are not in it:
    who wants both plays both bags. The bag appears, whole, when the context ends without an error.
    """

    def __init__(
        self,
        path: Path,
        source: Path,
        topics: Sequence[str],
        classes: Sequence[SemanticClass],
        threshold: float,
        min_area: int = 0,
    ) -> None:
        """Prepare to write.

        Args:
            path: the bag to write, ``.mcap``.
            source: the bag that the frames are of.
            topics: image topics of it.
            classes: the engine's classes.
            threshold: of the anomaly mask, which the class names are sent with.
            min_area: pixels that a region of the anomaly mask has at least.

        Raises:
            MultishiftError: two topics are of one camera.
        """
        self._cameras = {topic: bags.camera_name(topic) for topic in topics}
        if len(set(self._cameras.values())) < len(topics):
            raise MultishiftError(
                f'{source}: of {" and ".join(topics)}, two are of one camera, and their outputs '
                'would have the same topics; choose with --topic'
            )
        self._writer = BagWriter(path, compressed=True)
        self._source = source
        self._classes = classes
        self._colors = color_table(classes)
        self._threshold, self._min_area = threshold, min_area
        self._meter = ShiftMeter(classes)

    def __enter__(self) -> Self:
        """Begin the bag."""
        with ExitStack() as stack:
            stack.enter_context(self._writer)
            # A reader of its own: another thread reads the frames.
            reader = stack.enter_context(BagReader(self._source))
            self._infos = {
                info: Output.CALIBRATION.topic_of(camera, NODE)
                for topic, camera in self._cameras.items()
                if reader.topics.get(info := bags.info_topic(topic)) == bags.CAMERA_INFO
            }
            self._calibrations: Iterator[RawMessage] = reader.raw_messages(list(self._infos))
            self._next_info = next(self._calibrations, None) if self._infos else None
            self._named: set[str] = set()
            self._closing = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the bag and move it into place, or drop it after an error."""
        if kind is None:
            self._copy_calibrations(None)
        self._closing.__exit__(kind, error, trace)

    def add(self, frame: BagFrame, image: Bytes, output: FrameOutput, mask: Bytes) -> None:
        """Write what there is of a frame.

        Args:
            frame: the frame.
            image: its pixels, RGB ``uint8 [h,w,3]``.
            output: what the engine says of it.
            mask: where it is anomalous, ``uint8 [h,w]``.
        """
        camera, time = self._cameras[frame.topic], frame.time_ns
        header = frame.message.header
        stamp, frame_id = bags.stamp_ns(frame.message), header.frame_id
        self._copy_calibrations(time)
        if camera not in self._named:
            self._named.add(camera)
            self._name_classes(camera, stamp, time)
        images: dict[Output, Bytes | NDArray[np.float32]] = {
            Output.LABELS: output.labels,
            Output.ANOMALY_SCORE: score_unit(output.anomaly),
            Output.ANOMALY_MASK: mask,
        }
        if output.tells_confidence:
            images[Output.CONFIDENCE] = output.confidence
        for kind, pixels in images.items():
            self._writer.image(kind.topic_of(camera, NODE), stamp, frame_id, pixels, time)
        drawn = draw_overlay(image, output.engine_labels, mask, self._colors, ALPHA)
        jpeg = TYPES.types[COMPRESSED_IMAGE](
            header=header, format=JPEG_FORMAT, data=encode_jpeg(drawn)
        )
        self._writer.message(
            Output.OVERLAY_JPEG.topic_of(camera, NODE), COMPRESSED_IMAGE, jpeg, time
        )
        shift = self._meter.measure(output, self._threshold, self._min_area)
        self._add_shift(camera, header, time, shift)

    def _add_shift(self, camera: str, header: Any, time: int, shift: Shift) -> None:
        if shift.covariate is not None:
            topic = Output.DOMAIN_SHIFT.topic_of(camera, NODE)
            number = TYPES.types[FLOAT32](data=shift.covariate)
            self._writer.message(topic, FLOAT32, number, time)
        said = status_of(shift)
        pair: Any = TYPES.types['diagnostic_msgs/msg/KeyValue']
        kind: Any = TYPES.types['diagnostic_msgs/msg/DiagnosticStatus']
        status = kind(
            level=kind.OK if said.is_known else kind.WARN,
            name=shift_status_name(camera),
            message=said.message,
            hardware_id='',
            values=[pair(key=key, value=value) for key, value in said.values.items()],
        )
        message = TYPES.types[DIAGNOSTIC_ARRAY](header=header, status=[status])
        self._writer.message(Output.SHIFTS.topic_of(camera, NODE), DIAGNOSTIC_ARRAY, message, time)

    def _copy_calibrations(self, until: int | None) -> None:
        """Copy what the source has up to a bag time; None: all that is left."""
        while self._next_info is not None and (until is None or self._next_info.time <= until):
            topic, kind, data, time = self._next_info
            self._writer.raw(self._infos[topic], kind, data, time)
            self._next_info = next(self._calibrations, None)

    def _name_classes(self, camera: str, stamp: int, time: int) -> None:
        kind = TYPES.types['vision_msgs/msg/VisionClass']
        names = [kind(class_id=i, class_name=c.name) for i, c in enumerate(self._classes)]
        message = TYPES.types[LABEL_INFO](
            header=bags.header(stamp, ''), class_map=names, threshold=self._threshold
        )
        topic = Output.CLASS_NAMES.topic_of(camera, NODE)
        self._writer.message(topic, LABEL_INFO, message, time, latched=True)

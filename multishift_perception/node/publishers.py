# SPDX-License-Identifier: Apache-2.0
"""The outputs of one camera: what is watched is computed and sent, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
import logging
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Float32

from multishift_perception.arrays import Bytes
from multishift_perception.classes import SemanticClass, color_table
from multishift_perception.engine import Part
from multishift_perception.ground_plane import Calibration
from multishift_perception.images.picture import Picture
from multishift_perception.images.resizing import fit
from multishift_perception.message_types import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    DETECTIONS,
    DIAGNOSTIC_ARRAY,
    FLOAT32,
    IMAGE,
    MARKERS,
)
from multishift_perception.node.messages import (
    ReusedImage,
    jpeg_message,
    scaled_camera_info,
    shift_message,
)
from multishift_perception.node.mounting import MountingOf
from multishift_perception.node.object_messages import (
    Detection2DArray,
    MarkerArray,
    detections,
    markers,
)
from multishift_perception.node.parameter_specs import OVERRIDABLE
from multishift_perception.node.parameters import Settings
from multishift_perception.node.rclpy_private import MismatchedReaders
from multishift_perception.objects import ObjectFinder
from multishift_perception.outputs import OBJECTS, Output
from multishift_perception.overlay import draw_overlay
from multishift_perception.pipeline import (
    FrameOutput,
    anomaly_mask,
    score_unit,
)
from multishift_perception.shift import ShiftMeter

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # label_info is published where vision_msgs is installed
    LabelInfo = None

logger = logging.getLogger(__name__)

# What is published for frames; the class names are latched instead.
_TYPES = {
    IMAGE: Image,
    COMPRESSED_IMAGE: CompressedImage,
    CAMERA_INFO: CameraInfo,
    FLOAT32: Float32,
    DIAGNOSTIC_ARRAY: DiagnosticArray,
    DETECTIONS: Detection2DArray,
    MARKERS: MarkerArray,
}


# Returns where the pixels of an output are to be written, by height and width; None where it is
# not sent.
BufferOf = Callable[[Output, tuple[int, int]], NDArray[Any] | None]


class _FrameImages:
    """The images of one frame; what several of them need is computed once."""

    def __init__(
        self,
        picture: Picture,
        output: FrameOutput,
        settings: Settings,
        colors: Bytes,
        buffer_of: BufferOf,
    ) -> None:
        """Hold what the images are made of.

        Args:
            picture: the frame.
            output: what the engine said of it.
            settings: the node's settings.
            colors: the classes' colours, as `draw_overlay` takes them.
            buffer_of: tells where they are to be written.
        """
        self._picture = picture
        self._output = output
        self._settings = settings
        self._colors = colors
        self._buffer_of = buffer_of

    def pixels(self, kind: Output) -> NDArray[Any]:
        """Return the pixels of an image, written into its buffer where it has one."""
        output = self._output
        match kind:
            case Output.LABELS:
                return output.write_labels(self._buffer(kind))
            case Output.ANOMALY_SCORE:
                return score_unit(output.anomaly, out=self._buffer(kind))
            case Output.ANOMALY_MASK:
                return self._mask
            case Output.CONFIDENCE:
                return output.write_confidence(self._buffer(kind))
            case Output.OVERLAY | Output.OVERLAY_JPEG:
                return self._overlay
        raise ValueError(f'{kind} is no image')

    @cached_property
    def _mask(self) -> Bytes:
        settings = self._settings
        return anomaly_mask(
            self._output.anomaly,
            settings.anomaly_threshold,
            settings.min_anomaly_area,
            out=self._buffer(Output.ANOMALY_MASK),
        )

    @cached_property
    def _overlay(self) -> Bytes:
        size, picture = self._output.size, self._picture
        if picture.shape[:2] != size:
            picture = picture.like(fit(picture.pixels, size))
        return draw_overlay(
            picture.pixels,
            self._output.engine_labels,
            self._mask,
            self._colors,
            self._settings.overlay_alpha,
            out=self._buffer(Output.OVERLAY),
            conversion=picture.conversion,
        )

    def _buffer(self, kind: Output) -> NDArray[Any] | None:
        return self._buffer_of(kind, self._output.size)


# What of the engine's output each output is made of.
_PARTS: Mapping[Output, frozenset[Part]] = {
    Output.LABELS: frozenset({'labels'}),
    Output.ANOMALY_SCORE: frozenset({'anomaly'}),
    Output.ANOMALY_MASK: frozenset({'anomaly'}),
    Output.OVERLAY: frozenset({'engine_labels', 'anomaly'}),
    Output.OVERLAY_JPEG: frozenset({'engine_labels', 'anomaly'}),
    Output.CONFIDENCE: frozenset({'confidence'}),
    Output.DOMAIN_SHIFT: frozenset({'look'}),
    Output.SHIFTS: frozenset({'engine_labels', 'engine_anomaly', 'look'}),
    **dict.fromkeys(OBJECTS, frozenset({'engine_labels', 'engine_anomaly'})),
}


def parts_of(wanted: Iterable[Output]) -> frozenset[Part]:
    """Return what of the engine's output is read for some outputs of a camera."""
    return frozenset().union(*(_PARTS[output] for output in wanted if output in _PARTS))


class CameraOutputs:
    """The publishers of one camera under ``~/<camera>/``.

    The executor's thread creates and destroys them; the worker's publishes frames; any may ask
    what is wanted.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera: str,
        classes: tuple[SemanticClass, ...],
        *,
        tells_looks: bool = False,
        tells_confidence: bool = False,
        mounting_of: MountingOf | None = None,
    ) -> None:
        """Create the publishers.

        Args:
            node: the node.
            camera: name of the camera.
            classes: the engine's classes.
            tells_looks: whether the engine tells how frames look, without which no domain shift
                is published.
            tells_confidence: likewise of the probability of labels, and of confidence.
            mounting_of: returns how the camera is mounted by the frame of its images; None
                where that is not known.
        """
        self._node = node
        self._camera = camera
        self._meter = ShiftMeter(classes)
        self._finder = ObjectFinder(classes)
        self._mounting_of = mounting_of
        self._classes = classes
        self._colors = color_table(classes)
        self._publishers: dict[Output, Any] = {}
        self._label_info: Any = None
        # The buffers that images are written into, and sent from.
        self._images = {o: ReusedImage(o.encoding) for o in Output if o.kind == IMAGE}
        self._mismatches: list[MismatchedReaders] = []
        told = {Output.DOMAIN_SHIFT: tells_looks, Output.CONFIDENCE: tells_confidence}
        try:
            for output in Output:
                if not told.get(output, True):
                    continue
                if kind := _TYPES.get(output.kind):
                    topic = output.topic_of(camera)
                    self._publishers[output] = self._create(topic, kind)
            latched = Output.CLASS_NAMES.topic_of(camera)
            self._label_info = LabelInfo and self._create(latched, LabelInfo)
        except BaseException:
            self.destroy()
            raise

    def wanted(self, publish_always: bool) -> frozenset[Output]:
        """Return the outputs to publish."""
        return frozenset(
            output
            for output, publisher in self._publishers.items()
            if publish_always or publisher.get_subscription_count() > 0
        )

    def publish(
        self,
        wanted: frozenset[Output],
        header: Any,
        frame: Picture,
        output: FrameOutput,
        settings: Settings,
        info: CameraInfo | None = None,
    ) -> None:
        """Compute and publish what is wanted of one frame.

        Args:
            wanted: outputs, as ``wanted`` returned them.
            header: the frame's header, which every output carries.
            frame: the frame.
            output: what the engine said of the frame.
            settings: the node's settings.
            info: the camera's calibration, as far as it is known.
        """

        def buffer_of(kind: Output, size: tuple[int, int]) -> NDArray[Any] | None:
            return self._images[kind].pixels(size) if kind in wanted else None

        images = _FrameImages(frame, output, settings, self._colors, buffer_of)
        for kind in Output:
            if kind in wanted and kind.is_image:
                pixels = images.pixels(kind)
                if kind.kind == COMPRESSED_IMAGE:
                    self._send(kind, jpeg_message(header, pixels))
                # They are in its buffer, which goes past rclpy: that would ask whether it may.
                elif (publisher := self._publishers[kind]).is_activated:
                    self._images[kind].publish(publisher, header)
        if Output.DOMAIN_SHIFT in wanted and output.covariate_shift is not None:
            self._send(Output.DOMAIN_SHIFT, Float32(data=output.covariate_shift))
        if Output.SHIFTS in wanted:
            shift = self._meter.measure(
                output, settings.anomaly_threshold, settings.min_anomaly_area
            )
            self._send(Output.SHIFTS, shift_message(header, self._camera, shift))
        if wanted & OBJECTS:
            self._publish_objects(wanted & OBJECTS, header, frame, output, settings, info)

    def _publish_objects(
        self,
        wanted: frozenset[Output],
        header: Any,
        frame: Picture,
        output: FrameOutput,
        settings: Settings,
        info: CameraInfo | None,
    ) -> None:
        calibration = None
        if info is not None and info.k[0] > 0:
            height, width = frame.shape[:2]
            scaled = scaled_camera_info(info, header, (height, width), output.size)
            k = scaled.k
            calibration = Calibration((k[0], k[4], k[2], k[5]), tuple(scaled.d))
        objects = self._finder.find(
            output,
            settings.anomaly_threshold,
            min_area=settings.min_anomaly_area,
            min_hits=settings.anomaly_min_hits,
            calibration=calibration,
            mounting=self._mounting_of and self._mounting_of(header.frame_id),
        )
        if Output.ANOMALIES in wanted:
            self._send(Output.ANOMALIES, detections(header, objects))
        if Output.ANOMALY_MARKERS in wanted:
            self._send(Output.ANOMALY_MARKERS, markers(header, objects, calibration))

    def publish_camera_info(
        self, info: Any, header: Any, image_size: tuple[int, int], output_size: tuple[int, int]
    ) -> None:
        """Publish the calibration that fits the outputs; sizes are height and width."""
        self._send(Output.CALIBRATION, scaled_camera_info(info, header, image_size, output_size))

    def publish_label_info(self, settings: Settings) -> None:
        """Publish the latched class names and threshold, where vision_msgs is installed."""
        if self._label_info is None:
            return
        message = LabelInfo(threshold=settings.anomaly_threshold)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.class_map = [
            VisionClass(class_id=index, class_name=known.name)
            for index, known in enumerate(self._classes)
        ]
        self._label_info.publish(message)

    def destroy(self) -> None:
        """Destroy the publishers."""
        for mismatched in self._mismatches:
            mismatched.close()
        for publisher in (*self._publishers.values(), self._label_info):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def name_mismatches(self) -> None:
        """Log each subscriber that came since the last call and whose QoS shuts it out."""
        for mismatched in self._mismatches:
            if policy := mismatched.take():
                logger.warning(
                    'a subscriber of %s gets nothing: its %s asks for more than is offered; '
                    'see qos_overrides',
                    mismatched.topic,
                    policy,
                )

    def _create(self, topic: str, kind: Any) -> Any:
        latched = kind is LabelInfo
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        # Every event would be one more thing that the executor looks at before each frame: with
        # three for a topic, six cameras spend more on that than on receiving. They are asked for.
        publisher = self._node.create_lifecycle_publisher(
            kind,
            topic,
            qos,
            qos_overriding_options=OVERRIDABLE,
            event_callbacks=PublisherEventCallbacks(use_default_callbacks=False),
        )
        self._mismatches.append(MismatchedReaders(publisher))
        return publisher

    def _send(self, output: Output, message: Any) -> None:
        self._publishers[output].publish(message)

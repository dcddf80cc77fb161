# SPDX-License-Identifier: Apache-2.0
"""Building and reading ROS messages with as few touches of the bytes as possible."""

from __future__ import annotations

import copy
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from numpy.typing import NDArray
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header

from multishift_perception.images.codec import JPEG_FORMAT, encode_jpeg
from multishift_perception.node.rcl import OutgoingImage
from multishift_perception.outputs import shift_status_name
from multishift_perception.shift import Shift, status_of

# Type and number of channels of a pixel.
_PIXELS: dict[str, tuple[np.dtype[Any], int]] = {
    'mono8': (np.dtype(np.uint8), 1),
    'rgb8': (np.dtype(np.uint8), 3),
    '32FC1': (np.dtype(np.float32), 1),
}


class ReusedImage:
    """An image of a topic, whose every frame is written over the last one and sent from there.

    Publishing copies the pixels, so that they are free for the next frame once it returns.
    """

    def __init__(self, encoding: str) -> None:
        """Prepare; ``encoding`` is one of ``mono8``, ``rgb8`` and ``32FC1``."""
        self._dtype, self._channels = _PIXELS[encoding]
        self._pixels: NDArray[Any] = np.empty((0, 0), self._dtype)
        self._image = OutgoingImage(encoding)

    def pixels(self, size: tuple[int, int]) -> NDArray[Any]:
        """Return the pixels for a frame of that height and width, to be overwritten."""
        if self._pixels.shape[:2] != size:
            shape = size if self._channels == 1 else (*size, self._channels)
            self._pixels = np.empty(shape, self._dtype)
        return self._pixels

    def publish(self, publisher: Publisher, header: Header) -> None:
        """Publish the pixels as they are now.

        Raises:
            RuntimeError: the middleware refuses it.
        """
        self._image.publish(publisher, header, self._pixels)


def jpeg_message(header: Any, image: NDArray[np.uint8]) -> CompressedImage:
    """Build a JPEG ``CompressedImage`` of an RGB image ``uint8 [h,w,3]``."""
    message = CompressedImage(header=header, format=JPEG_FORMAT)
    message.data.frombytes(encode_jpeg(image).data)
    return message


def shift_message(header: Header, camera: str, shift: Shift) -> DiagnosticArray:
    """Build the status of a frame's shifts; its values are numbers, a missing one is left out."""
    said = status_of(shift)
    status = DiagnosticStatus(
        name=shift_status_name(camera),
        level=DiagnosticStatus.OK if said.is_known else DiagnosticStatus.WARN,
        message=said.message,
        values=[KeyValue(key=key, value=value) for key, value in said.values.items()],
    )
    return DiagnosticArray(header=header, status=[status])


def calibrated_size(info: Any) -> tuple[int, int] | None:
    """Return the height and width of the images that a ``CameraInfo`` is of.

    None where it does not say: it has no size, or images are a region or binned, which drivers
    fill in in several ways.
    """
    roi = info.roi
    if not (info.height and info.width) or roi.width or roi.height:
        return None
    if max(info.binning_x, info.binning_y) > 1:
        return None
    return info.height, info.width


def scaled_camera_info(
    info: Any, header: Any, image_size: tuple[int, int], output_size: tuple[int, int]
) -> CameraInfo:
    """Return the calibration of an output image.

    K, P and the region of interest scale with the image; distortion and rotation do not. Scales
    as image_pipeline does: the principal point by the same factor as the focal length.

    Args:
        info: ``CameraInfo`` of the input image.
        header: header of the frame.
        image_size: height and width of the input image, which counts where `calibrated_size` is
            None.
        output_size: height and width of the output.
    """
    scaled = copy.deepcopy(info)
    scaled.header = header
    calibrated = calibrated_size(info) or image_size
    if calibrated == output_size:
        return scaled
    y, x = (out / size for out, size in zip(output_size, calibrated, strict=True))
    rows = np.array([[x], [y], [1.0]])
    scaled.height, scaled.width = round(info.height * y), round(info.width * x)
    scaled.k = (np.reshape(info.k, (3, 3)) * rows).ravel()
    scaled.p = (np.reshape(info.p, (3, 4)) * rows).ravel()
    roi = scaled.roi
    roi.x_offset, roi.width = round(info.roi.x_offset * x), round(info.roi.width * x)
    roi.y_offset, roi.height = round(info.roi.y_offset * y), round(info.roi.height * y)
    return scaled

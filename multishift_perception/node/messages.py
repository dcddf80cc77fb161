# SPDX-License-Identifier: Apache-2.0
"""Building and reading ROS messages with as few touches of the bytes as possible."""

from __future__ import annotations

import copy
import sys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

_JPEG_QUALITY = 90


def image_message(header: Any, encoding: str, pixels: NDArray[Any]) -> Image:
    """Build an ``Image`` of an array ``[h,w]`` or ``[h,w,c]`` in this machine's byte order."""
    pixels = np.ascontiguousarray(pixels)
    message = Image(
        header=header,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=sys.byteorder == 'big',
        step=pixels.strides[0],
    )
    # Assigning to data would copy twice and check every byte.
    message.data.frombytes(pixels.data.cast('B'))
    return message


def jpeg_message(header: Any, image: NDArray[np.uint8]) -> CompressedImage:
    """Build a JPEG ``CompressedImage`` of an RGB image ``uint8 [h,w,3]``."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not encoded:
        raise RuntimeError(f'OpenCV cannot encode an image of {image.shape} as JPEG')
    message = CompressedImage(header=header, format='rgb8; jpeg compressed bgr8')
    message.data.frombytes(data.data.cast('B'))
    return message


def scaled_camera_info(
    info: Any, header: Any, image_size: tuple[int, int], output_size: tuple[int, int]
) -> CameraInfo:
    """Return the calibration of an output image.

    K, P and the region of interest scale with the image; distortion and rotation do not. Scales
    as image_pipeline does: the principal point by the same factor as the focal length.

    Args:
        info: ``CameraInfo`` of the input image.
        header: header of the frame.
        image_size: height and width of the input image.
        output_size: height and width of the output.
    """
    scaled = copy.deepcopy(info)
    scaled.header = header
    if image_size == output_size:
        return scaled
    y, x = (out / size for out, size in zip(output_size, image_size, strict=True))
    rows = np.array([[x], [y], [1.0]])
    scaled.height, scaled.width = round(info.height * y), round(info.width * x)
    scaled.k = (np.reshape(info.k, (3, 3)) * rows).ravel()
    scaled.p = (np.reshape(info.p, (3, 4)) * rows).ravel()
    roi = scaled.roi
    roi.x_offset, roi.width = round(info.roi.x_offset * x), round(info.roi.width * x)
    roi.y_offset, roi.height = round(info.roi.y_offset * y), round(info.roi.height * y)
    return scaled

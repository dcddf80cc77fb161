# SPDX-License-Identifier: Apache-2.0
"""Camera bytes to RGB frames, every encoding, step and byte order that the node accepts; and JPEG.

ROS-free: the functions take messages of any library, or their fields. What cannot be decoded is
refused with a ``FrameError``, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable
import re
import sys
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import as_bytes
from multishift_perception.errors import one_line
from multishift_perception.images.decoding import (
    MAX_PIXELS,
    Buffer,
    decode_file,
    decode_grey,
    read_header,
    refuse_oversized,
)

# Users of this module catch FrameError.
from multishift_perception.images.frame_errors import BrokenFrame, UnsupportedEncoding
from multishift_perception.images.frame_errors import FrameError as FrameError
from multishift_perception.images.picture import Picture

# Bytes per pixel and conversion to RGB (None: the bytes are RGB already).
# OpenCV names a Bayer pattern after the second pixel of the second row, ROS after the first of
# the first: rggb8 is OpenCV's BG.
_PACKED: dict[str, tuple[int, int | None]] = {
    'rgb8': (3, None),
    'bgr8': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB),
    'bayer_rggb8': (1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': (1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': (1, cv2.COLOR_BayerGB2RGB),
    'yuv422': (2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': (2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': (2, cv2.COLOR_YUV2RGB_YUY2),
}
# Of these each pixel's colour is its own: they may be converted after the picture is resized.
_BY_PIXEL = {'rgb8', 'bgr8'}
_JPEG_QUALITY = 90
# What a CompressedImage says of what `encode_jpeg` returns, as image_transport has it.
JPEG_FORMAT = 'rgb8; jpeg compressed bgr8'
_PLANAR = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}
# Off the fast path, left to cv_bridge: channels of two bytes each.
_BRIDGED = {
    'rgb16': 3,
    'bgr16': 3,
    'rgba16': 4,
    'bgra16': 4,
    'bayer_rggb16': 1,
    'bayer_bggr16': 1,
    'bayer_gbrg16': 1,
    'bayer_grbg16': 1,
}
ENCODINGS = (*_PACKED, 'mono16', *_PLANAR)

# What a CompressedImage's format says of a mosaic: its encoding; then, after a semicolon, the
# file's kind and what it holds, which some senders leave out.
_BAYER = re.compile(r'bayer_(rggb|bggr|gbrg|grbg)(8|16)')


def decode(message: Any, *, max_pixels: int | None = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an ``Image`` or a ``CompressedImage``, of rclpy or of a bag reader.

    Args:
        message: the message.
        max_pixels: larger images are refused before they are decoded; none are where this is None.

    Returns:
        RGB ``uint8 [h,w,3]``.

    Raises:
        FrameError: the frame cannot be used.
    """
    if hasattr(message, 'format'):
        return decode_compressed(message.data, message.format, max_pixels=max_pixels)
    refuse_oversized(message.height, message.width, max_pixels)
    return decode_image(
        message.encoding,
        message.height,
        message.width,
        message.step,
        bool(message.is_bigendian),
        message.data,
    )


def open_picture(message: Any, *, max_pixels: int | None = MAX_PIXELS) -> Picture:
    """Decode a message as `decode` does, but leave the order of colours for later.

    Args:
        message: the message.
        max_pixels: larger images are refused before they are decoded; none are where this is None.

    Raises:
        FrameError: the frame cannot be used.
    """
    encoding = getattr(message, 'encoding', None)
    if encoding not in _BY_PIXEL:
        return Picture(decode(message, max_pixels=max_pixels))
    refuse_oversized(message.height, message.width, max_pixels)
    channels, conversion = _PACKED[encoding]
    pixels = _view(message.data, message.height, message.width, message.step, channels)
    return Picture(pixels, conversion)


def decode_image(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool, data: Buffer
) -> NDArray[np.uint8]:
    """Decode the fields of a ``sensor_msgs/Image``.

    Args:
        encoding: name of the pixel format; ``ENCODINGS`` always work, 16-bit colour and 16-bit
            Bayer where ``cv_bridge`` is installed.
        height: rows of the image (for nv12 and nv21 of the image, not of the buffer).
        width: columns.
        step: bytes per row, padding included.
        is_bigendian: byte order of 16-bit pixels.
        data: the pixels: ``step * height`` bytes (half as many again for nv12 and nv21).

    Returns:
        RGB ``uint8 [h,w,3]``; a read-only view of ``data`` where its bytes are RGB already.

    Raises:
        UnsupportedEncoding: the encoding is not known.
        BrokenFrame: size, step or length do not fit the encoding.
    """
    if encoding in _PACKED:
        channels, conversion = _PACKED[encoding]
        if channels == 2:
            _require_even(encoding, width=width)
        pixels = _view(data, height, width, step, channels)
        return pixels if conversion is None else _convert(pixels, conversion)
    if encoding == 'mono16':
        # The most significant byte is the 8-bit image.
        pixels = _view(data, height, width, step, 2)
        high = np.ascontiguousarray(pixels[:, :, 0 if is_bigendian else 1])
        return _convert(high, cv2.COLOR_GRAY2RGB)
    if encoding in _PLANAR:
        _require_even(encoding, height=height, width=width)
        return _convert(_view(data, height * 3 // 2, width, step, 1), _PLANAR[encoding])
    if encoding in _BRIDGED:
        pixels = _view(data, height, width, step, 2 * _BRIDGED[encoding])
        return _bridge(encoding, pixels, is_bigendian)
    raise UnsupportedEncoding(f"encoding '{encoding}' is none of {', '.join(ENCODINGS)}")


def decode_compressed(
    data: Buffer, format: str = '', *, max_pixels: int | None = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode the bytes of a ``sensor_msgs/CompressedImage``.

    The bytes decide, not ``format``, which drivers fill in many ways; but a file of one channel
    is a Bayer mosaic where ``format`` says so.

    Args:
        data: a file that ``decode_file`` reads.
        format: of the message, such as ``bayer_rggb8; png compressed bayer_rggb8``.
        max_pixels: larger images are refused before they are decoded; none are where this is None.

    Returns:
        RGB ``uint8 [h,w,3]``; of a mosaic what ``decode_image`` returns.

    Raises:
        UnsupportedEncoding: the bytes are no such file, or 16-bit Bayer without ``cv_bridge``.
        BrokenFrame: the file is truncated or damaged.
        OversizedFrame: it has more than ``max_pixels``.
    """
    pattern = _mosaic(format)
    if pattern is None or not (header := read_header(data)).is_grey:
        return decode_file(data, max_pixels=max_pixels)
    refuse_oversized(header.height, header.width, max_pixels)
    mosaic = np.ascontiguousarray(decode_grey(data, header))
    return decode_image(
        f'bayer_{pattern}{8 * mosaic.itemsize}',
        header.height,
        header.width,
        mosaic.strides[0],
        sys.byteorder == 'big',
        mosaic.data.cast('B'),
    )


def _mosaic(format: str) -> str | None:
    """Return the Bayer pattern that a file of one channel holds, if it is a mosaic."""
    source, _, file = format.partition(';')
    _, _, target = file.partition('compressed')
    # Any other target was converted to by the sender: to colour, or to grey for good.
    found = _BAYER.fullmatch(target.strip() or source.strip())
    return found and found[1]


def _view(data: Buffer, rows: int, width: int, step: int, pixel: int) -> NDArray[np.uint8]:
    """View ``rows`` rows of ``width`` pixels of ``pixel`` bytes, without a copy."""
    if rows <= 0 or width <= 0:
        raise BrokenFrame(f'the image is {width} x {rows} pixels')
    if step < width * pixel:
        raise BrokenFrame(f'step is {step}, a row of {width} pixels has {width * pixel} bytes')
    if len(data) != step * rows:
        raise BrokenFrame(f'data has {len(data)} bytes, {rows} rows of {step} have {step * rows}')
    strides = (step, pixel, 1)
    pixels: NDArray[np.uint8] = np.ndarray((rows, width, pixel), np.uint8, data, 0, strides)
    pixels.flags.writeable = False
    return pixels


def _convert(pixels: NDArray[np.uint8], conversion: int) -> NDArray[np.uint8]:
    try:
        return as_bytes(cv2.cvtColor(pixels, conversion))
    except cv2.error as error:
        raise BrokenFrame(f'the pixels cannot be converted: {one_line(error)}') from error


def _bridge(encoding: str, pixels: NDArray[np.uint8], is_bigendian: bool) -> NDArray[np.uint8]:
    """Let cv_bridge convert; rows are packed first, and bytes put in this machine's order."""
    convert = _cv_bridge()
    if convert is None:
        raise UnsupportedEncoding(f"encoding '{encoding}' needs cv_bridge, which is not installed")
    words = np.ascontiguousarray(pixels).view(np.dtype('>u2' if is_bigendian else '<u2'))
    native = words.astype(np.uint16)
    height, width = native.shape[:2]
    message = SimpleNamespace(
        encoding=encoding,
        height=height,
        width=width,
        step=native.strides[0],
        is_bigendian=sys.byteorder == 'big',
        data=native.tobytes(),
    )
    try:
        image = np.asarray(convert(message, 'rgb8'))
    except (TypeError, KeyError, ValueError, RuntimeError, cv2.error) as error:
        # CvBridgeError is a TypeError; the others escape from some of its versions.
        raise UnsupportedEncoding(f"cv_bridge cannot convert '{encoding}': {error}") from error
    return as_bytes(image)


def _cv_bridge() -> Callable[[Any, str], Any] | None:
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    convert: Callable[[Any, str], Any] = CvBridge().imgmsg_to_cv2
    return convert


def _require_even(encoding: str, **sides: int) -> None:
    for name, value in sides.items():
        if value % 2:
            raise BrokenFrame(f'{encoding} needs an even {name}, not {value}')


def encode_jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an RGB image ``uint8 [h,w,3]`` as JPEG, ``uint8 [N]``.

    Raises:
        RuntimeError: OpenCV cannot encode an image of its size.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not encoded:
        raise RuntimeError(f'OpenCV cannot encode an image of {image.shape} as JPEG')
    return as_bytes(data).reshape(-1)

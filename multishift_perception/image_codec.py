"""Camera bytes to RGB frames: every encoding, step and byte order that the node accepts.

ROS-free: the functions take messages of any library, or their fields. What cannot
be decoded is refused with a ``FrameError``, whatever the bytes are.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
import sys
from types import SimpleNamespace
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

# Quoted: array.array takes no subscript at run time before Python 3.12.
Buffer: TypeAlias = 'bytes | bytearray | memoryview | array[int]'


class FrameError(Exception):
    """A frame that cannot be used.

    Attributes:
        cause: the short name under which such frames are counted.
    """

    cause: str


class UnsupportedEncoding(FrameError):
    """The frame is in an encoding that nothing here decodes."""

    cause = 'encoding'


class BrokenFrame(FrameError):
    """The frame's fields contradict each other, or its bytes are damaged."""

    cause = 'broken'


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

_JPEG_START, _JPEG_END = b'\xff\xd8\xff', b'\xff\xd9'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
# Some cameras pad their JPEGs; the end marker is looked for in this many last bytes.
_END_WINDOW = 4096


def decode(message: Any) -> NDArray[np.uint8]:
    """Decode an ``Image`` or a ``CompressedImage``, of rclpy or of a bag reader.

    Returns:
        RGB ``uint8 [h,w,3]``.

    Raises:
        FrameError: the frame cannot be used.
    """
    if hasattr(message, 'format'):
        return decode_compressed(message.data)
    return decode_image(
        message.encoding,
        message.height,
        message.width,
        message.step,
        bool(message.is_bigendian),
        message.data,
    )


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


def decode_compressed(data: Buffer) -> NDArray[np.uint8]:
    """Decode the bytes of a ``sensor_msgs/CompressedImage``, JPEG or PNG.

    The bytes decide, not the message's ``format``, which drivers fill in many ways. A truncated
    file is refused: decoders fill what is missing with grey, which would pass for an anomaly.
    An EXIF orientation is ignored, so that the outputs align with the sensor.

    Returns:
        RGB ``uint8 [h,w,3]``.

    Raises:
        UnsupportedEncoding: the bytes are neither JPEG nor PNG.
        BrokenFrame: the file is truncated or damaged.
    """
    view = memoryview(data)
    start, tail = bytes(view[:8]), bytes(view[-_END_WINDOW:])
    if start.startswith(_JPEG_START):
        kind, end = 'JPEG', _JPEG_END
    elif start == _PNG_START:
        kind, end = 'PNG', _PNG_END
    elif not start:
        raise BrokenFrame('the compressed image has no bytes')
    else:
        raise UnsupportedEncoding(f'compressed bytes are neither JPEG nor PNG: {start.hex(" ")}')
    if end not in tail:
        raise BrokenFrame(f'the {kind} of {len(view)} bytes is truncated')
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(view, np.uint8), flags)
    except cv2.error as error:
        raise BrokenFrame(f'the {kind} cannot be decoded: {_first_line(error)}') from error
    if image is None:
        raise BrokenFrame(f'the {kind} of {len(view)} bytes cannot be decoded')
    return _u8(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image))


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
        return _u8(cv2.cvtColor(pixels, conversion))
    except cv2.error as error:
        raise BrokenFrame(f'the pixels cannot be converted: {_first_line(error)}') from error


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
    return _u8(image)


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


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _u8(array_like: Any) -> NDArray[np.uint8]:
    return np.asarray(array_like, np.uint8)

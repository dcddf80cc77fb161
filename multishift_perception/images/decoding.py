# SPDX-License-Identifier: Apache-2.0
"""Image files, JPEG, PNG and WebP: the one decoder of all that drives, trains and measures.

What is damaged is refused: decoders fill what is missing with grey, which would pass for an
anomaly. An EXIF orientation is ignored, so that outputs align with the sensor and label images
with their frames.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from io import BytesIO
import re
import struct
from typing import Any, TypeAlias
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
import simplejpeg

from multishift_perception.errors import one_line
from multishift_perception.images.frame_errors import (
    BrokenFrame,
    OversizedFrame,
    UnsupportedEncoding,
)

# Quoted: array.array takes no subscript at run time before Python 3.12.
Buffer: TypeAlias = 'bytes | bytearray | memoryview | array[int]'

# Cameras of vehicles have up to 26 million pixels; 8K video has 33. One frame of that size
# takes longer than all others of a round together.
MAX_PIXELS = 32_000_000

_JPEG_START = b'\xff\xd8\xff'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
# Encoders in webcams pad the data before a restart or end marker; all pixels are there. Of
# damage, far more is left over: 16 bytes hide next to none of it.
_PADDING = re.compile(r'(\d+) extraneous bytes before marker 0xd[0-79]')
_MOST_PADDING = 16
# What Pillow raises for damaged files, by where the damage is.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Header:
    """What an image file says of itself before its pixels.

    Attributes:
        kind: ``JPEG``, ``PNG`` or ``WebP``.
        height: rows.
        width: columns.
        is_grey: whether it has one channel, of 8 bits or more.
    """

    kind: str
    height: int
    width: int
    is_grey: bool


def refuse_oversized(height: int, width: int, max_pixels: int | None) -> None:
    """Raise OversizedFrame for more than ``max_pixels``."""
    if max_pixels is not None and height * width > max_pixels:
        raise OversizedFrame(
            f'the image has {width} x {height} pixels, more than {max_pixels / 1e6:g} million'
        )


def read_header(data: Buffer) -> Header:
    """Read the header of an image file; the bytes decide what it is.

    Raises:
        UnsupportedEncoding: the bytes are neither JPEG nor PNG nor WebP.
        BrokenFrame: there is no header, or the file ends early.
    """
    view = memoryview(data)
    start = bytes(view[:32])
    if start.startswith(_JPEG_START):
        return _jpeg_header(view)
    if start.startswith(_PNG_START):
        return _png_header(view, start)
    if start[:4] == b'RIFF' and start[8:12] == b'WEBP':
        return _webp_header(view)
    if not start:
        raise BrokenFrame('the compressed image has no bytes')
    shown = start[:8].hex(' ')
    raise UnsupportedEncoding(f'compressed bytes are neither JPEG nor PNG nor WebP: {shown}')


def decode_file(data: Buffer, *, max_pixels: int | None = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        data: the bytes of the file; what follows its end is ignored.
        max_pixels: larger images are refused before they are decoded; none are where this is None.

    Returns:
        RGB ``uint8 [h,w,3]``; of 16-bit channels the most significant byte.

    Raises:
        UnsupportedEncoding: the bytes are neither JPEG nor PNG nor WebP.
        BrokenFrame: the file is truncated or damaged.
        OversizedFrame: it has more than ``max_pixels``.
    """
    header = read_header(data)
    refuse_oversized(header.height, header.width, max_pixels)
    view = memoryview(data)
    if header.kind == 'JPEG':
        return _jpeg(view, 'RGB')
    if header.kind == 'WebP':
        return _webp(view)
    image = _opencv(view, header.kind, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), np.uint8)


def exif_orientation(data: Buffer) -> int:
    """Return how an image file says that it is to be turned, 1 to 8; 1 is as it is stored."""
    try:
        with warnings.catch_warnings(action='ignore'), Image.open(BytesIO(data)) as image:
            # That of PNG would decode all pixels to see whether one stands behind them.
            found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except (*UNREADABLE, struct.error):
        return 1
    return found if found in range(1, 9) else 1


def decode_grey(data: Buffer, header: Header) -> NDArray[Any]:
    """Decode the one channel of an image file, whose header says that it has one, as stored.

    Returns:
        ``uint8`` or ``uint16`` ``[h,w]``.

    Raises:
        BrokenFrame: the file is truncated or damaged.
    """
    view = memoryview(data)
    if header.kind == 'JPEG':
        return _jpeg(view, 'GRAY')[..., 0]
    return _opencv(view, header.kind, cv2.IMREAD_UNCHANGED)


def _jpeg_header(view: memoryview) -> Header:
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(view)
    except ValueError as error:
        raise _undecodable('JPEG', view, error) from error
    return Header('JPEG', int(height), int(width), colors == 'Gray')


def _png_header(view: memoryview, start: bytes) -> Header:
    if len(start) < 26 or start[12:16] != b'IHDR':
        raise _undecodable('PNG', view, 'it has no header')
    # Padding may follow the end; the whole file is looked through only where some does.
    if bytes(view[-len(_PNG_END) :]) != _PNG_END and _PNG_END not in bytes(view):
        raise BrokenFrame(f'the PNG of {len(view)} bytes is truncated')
    width, height = (int.from_bytes(start[at : at + 4], 'big') for at in (16, 20))
    depth, color = start[24:26]
    return Header('PNG', height, width, color == 0 and depth >= 8)


def _webp_header(view: memoryview) -> Header:
    try:
        with Image.open(BytesIO(view)) as image:
            return Header('WebP', image.height, image.width, is_grey=False)
    except UNREADABLE as error:
        raise _undecodable('WebP', view, error) from error


def _jpeg(view: memoryview, colorspace: str) -> NDArray[np.uint8]:
    try:
        return np.asarray(simplejpeg.decode_jpeg(view, colorspace), np.uint8)
    except ValueError as error:
        found = _PADDING.search(str(error))
        if found is None or int(found[1]) > _MOST_PADDING:
            raise _undecodable('JPEG', view, error) from error
    return np.asarray(simplejpeg.decode_jpeg(view, colorspace, strict=False), np.uint8)


def _webp(view: memoryview) -> NDArray[np.uint8]:
    try:
        with Image.open(BytesIO(view)) as image:
            return np.array(image.convert('RGB'))
    except UNREADABLE as error:
        raise _undecodable('WebP', view, error) from error


def _opencv(view: memoryview, kind: str, flags: int) -> NDArray[Any]:
    try:
        image = cv2.imdecode(np.frombuffer(view, np.uint8), flags)
    except cv2.error as error:
        raise _undecodable(kind, view, one_line(error)) from error
    if image is None:
        raise _undecodable(kind, view, 'it is damaged')
    return np.asarray(image)


def _undecodable(kind: str, view: memoryview, why: object) -> BrokenFrame:
    return BrokenFrame(f'the {kind} of {len(view)} bytes cannot be decoded: {why}')

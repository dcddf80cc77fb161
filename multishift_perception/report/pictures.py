# SPDX-License-Identifier: Apache-2.0
"""The pictures of a frame in a report: what the camera saw, what the engine said, what is true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes, as_bytes
from multishift_perception.overlay import (
    ALPHA,
    color_labels,
    draw_overlay,
    draw_score,
    draw_truth,
)
from multishift_perception.pipeline import Pixels, anomaly_levels, score_unit
from multishift_perception.report.frame_table import FrameRecord

_WIDTH = 640
# From what nobody tells from the original to what still shows an object.
_QUALITIES = (88, 78, 66, 52, 38)
# What fills less of its share than this has room for the next better one.
_ROOM = 0.6
# What is too large even at the worst is made smaller, by this factor each time.
_SMALLER = 0.75
_SMALLEST = 48


@dataclass(frozen=True)
class Picture:
    """A frame as a report shows it, each part as JPEG bytes.

    Attributes:
        record: which frame it is, and its figures.
        frame: what the camera saw.
        overlay: what the engine saw.
        score: its calibrated score by colour; see ``SCALE``.
        truth: the ground truth; None where there is none.
    """

    record: FrameRecord
    frame: bytes
    overlay: bytes
    score: bytes
    truth: bytes | None

    @property
    def parts(self) -> dict[str, bytes]:
        """Each part by what it is called on the page."""
        parts = {'frame': self.frame, 'overlay': self.overlay, 'score': self.score}
        return parts if self.truth is None else {**parts, 'truth': self.truth}


class Encoder:
    """Makes JPEGs of the parts of pictures, with a number of bytes for the parts of each.

    Pictures of a drive are much alike: each begins at the quality that the one before took, and
    where that left much room, at the next better one.
    """

    def __init__(self, most: int) -> None:
        """Begin with the best quality; a picture has so many bytes at most."""
        self._most = most
        self._rank = 0

    def encode(self, parts: Sequence[Bytes]) -> list[bytes]:
        """Return RGB images ``uint8 [h,w,3]`` as JPEGs of one quality."""
        images = [as_bytes(cv2.cvtColor(part, cv2.COLOR_RGB2BGR)) for part in parts]
        for rank in range(self._rank, len(_QUALITIES)):
            found = [_at(image, _QUALITIES[rank]) for image in images]
            size = sum(map(len, found))
            if size <= self._most:
                self._rank = max(0, rank - (size < _ROOM * self._most))
                return found
        self._rank = len(_QUALITIES) - 1
        return [_encode(image, self._most // len(images)) for image in images]


def draw_picture(
    record: FrameRecord, pixels: Pixels, colors: Bytes, encoder: Encoder, *, width: int = _WIDTH
) -> Picture:
    """Draw a frame.

    Args:
        record: its figures.
        pixels: what is drawn.
        colors: see `draw_overlay`.
        encoder: makes files of its parts.
        width: of the parts, in pixels, at most.
    """
    shown = _shrunk(pixels, width)
    parts = [
        shown.image,
        draw_overlay(shown.image, shown.labels, shown.mask, colors, ALPHA),
        color_scores(shown.anomaly),
    ]
    if shown.truth is not None:
        parts.append(draw_truth(shown.image, shown.truth, colors, ALPHA))
    frame, overlay, score, *truth = encoder.encode(parts)
    return Picture(record, frame, overlay, score, truth[0] if truth else None)


def _shrunk(pixels: Pixels, width: int) -> Pixels:
    """Return what is drawn at the size of its picture, so that outlines stay sharp."""
    rows, columns = pixels.labels.shape
    if columns <= width:
        return pixels
    size = (width, max(1, round(rows * width / columns)))
    # A region of a single pixel is still one.
    mask = cv2.resize(pixels.mask, size, interpolation=cv2.INTER_AREA)
    _, mask = cv2.threshold(mask, 0, 255, cv2.THRESH_BINARY)
    labels = partial(cv2.resize, dsize=size, interpolation=cv2.INTER_NEAREST)
    return Pixels(
        image=_narrowed(pixels.image, width),
        labels=as_bytes(labels(pixels.labels)),
        mask=as_bytes(mask),
        anomaly=_narrowed(pixels.anomaly, width),
        truth=None if pixels.truth is None else as_bytes(labels(pixels.truth)),
    )


def fit_pictures(pictures: Iterable[Picture], budget: int) -> tuple[Picture, ...]:
    """Return pictures that have no more than some bytes together, coarser where they had more."""
    whole = tuple(pictures)
    parts = sum(len(picture.parts) for picture in whole)
    size = sum(len(part) for picture in whole for part in picture.parts.values())
    if size <= budget:
        return whole
    most = budget // parts
    return tuple(
        replace(
            picture,
            frame=_coarser(picture.frame, most),
            overlay=_coarser(picture.overlay, most),
            score=_coarser(picture.score, most),
            truth=None if picture.truth is None else _coarser(picture.truth, most),
        )
        for picture in whole
    )


def jpeg(image: NDArray[np.uint8], *, width: int = _WIDTH, most: int | None = None) -> bytes:
    """Return an image as JPEG, made smaller where it is wide.

    Args:
        image: RGB ``uint8 [h,w,3]``.
        width: in pixels, at most.
        most: bytes that it has at most, at the price of quality, then of size; None for any.
    """
    bgr = as_bytes(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return _encode(_narrowed(bgr, width), most)


def color_scores(anomaly: Bytes) -> Bytes:
    """Return calibrated scores by colour.

    Args:
        anomaly: ``uint8 [h,w]``; 128 is the operating point.

    Returns:
        RGB ``uint8 [h,w,3]``: the darker, the more ordinary.
    """
    return color_labels(anomaly, _score_colors())


@lru_cache(maxsize=1)
def _score_colors() -> Bytes:
    """Return the colour of each level, ``uint8 [256,3]``.

    Lightness rises along the scale, so that it reads the same in every kind of colour vision.
    """
    return as_bytes(draw_score(score_unit(np.arange(256, dtype=np.uint8).reshape(1, -1)))[0])


def score_scale(steps: int = 9) -> tuple[tuple[int, int, int], ...]:
    """Return the colours of scores from 0 to 1 in equal steps, for a legend."""
    colors = _score_colors()[anomaly_levels(np.linspace(0, 1, steps))].tolist()
    return tuple((r, g, b) for r, g, b in colors)


def _coarser(data: bytes, most: int) -> bytes:
    if len(data) <= most:
        return data
    return _encode(as_bytes(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)), most)


def _encode(bgr: Bytes, most: int | None) -> bytes:
    while True:
        for quality in _QUALITIES:
            data = _at(bgr, quality)
            if most is None or len(data) <= most:
                return data
        if bgr.shape[1] <= _SMALLEST:
            return data
        bgr = _narrowed(bgr, max(_SMALLEST, round(bgr.shape[1] * _SMALLER)))


def _at(bgr: Bytes, quality: int) -> bytes:
    _, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _narrowed(image: Bytes, width: int) -> Bytes:
    rows, columns = image.shape[:2]
    if columns <= width:
        return image
    size = (width, max(1, round(rows * width / columns)))
    return as_bytes(cv2.resize(image, size, interpolation=cv2.INTER_AREA))

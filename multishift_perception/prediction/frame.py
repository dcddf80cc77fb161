# SPDX-License-Identifier: Apache-2.0
"""What an engine says of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_perception.classes import SemanticClass, color_table
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.images.decoding import decode_file
from multishift_perception.images.frame_errors import FrameError
from multishift_perception.overlay import ALPHA, draw_overlay
from multishift_perception.pipeline import FrameOutput, Pipeline, Pixels, anomaly_mask, score_unit
from multishift_perception.regions import Region, find_regions
from multishift_perception.shift import Shift, ShiftMeter


@dataclass(frozen=True)
class FramePrediction:
    """What an engine says of an image, at the image's size.

    Attributes:
        image: RGB ``uint8 [h,w,3]``.
        labels: ``uint8 [h,w]``, index of the most likely known class in ``classes``.
        mask: ``uint8 [h,w]``, 255 where the image is anomalous, else 0.
        classes: the known classes.
        shift: how far it is from what the network was trained on.
        anomaly: ``uint8 [h,w]``, calibrated uncertainty; 128 is the operating point, of which
            ``score`` makes 0.5.
    """

    image: Bytes
    labels: Bytes
    mask: Bytes
    classes: Sequence[SemanticClass]
    shift: Shift
    anomaly: Bytes

    @cached_property
    def score(self) -> NDArray[np.float32]:
        """``float32 [h,w]``, 0..1 on the calibrated scale; 0.5 is the operating point."""
        return score_unit(self.anomaly)

    @property
    def pixels(self) -> Pixels:
        """The same without what is computed of it."""
        return Pixels(self.image, self.labels, self.mask, self.anomaly)

    @cached_property
    def regions(self) -> list[Region]:
        """The anomalies, the largest first."""
        return find_regions(self.mask, self.anomaly)

    def overlay(self, alpha: float = ALPHA) -> Bytes:
        """Return the image with its classes coloured and its anomalies outlined.

        Args:
            alpha: weight of the colours, 0..1.

        Returns:
            RGB ``uint8 [h,w,3]``.
        """
        return draw_overlay(self.image, self.labels, self.mask, color_table(self.classes), alpha)


class Predictor:
    """Asks an engine about images, of any sizes, as the node does; for one thread at a time."""

    def __init__(self, engine: Engine, *, threshold: float = 0.5, min_area: int = 0) -> None:
        """Take an engine.

        Args:
            engine: loaded.
            threshold: calibrated score from which a pixel is anomalous, 0..1.
            min_area: pixels that an anomalous region has at least.

        Raises:
            MultishiftError: the threshold is not in 0..1.
        """
        if not 0 <= threshold <= 1:  # nor NaN
            raise MultishiftError(f'the threshold is {threshold}: give 0 to 1')
        self._pipeline = Pipeline(engine)
        self._classes = engine.classes
        self._meter = ShiftMeter(engine.classes)
        self._threshold = threshold
        self._min_area = min_area

    def __call__(self, images: Sequence[Bytes]) -> list[FramePrediction]:
        """Return what the engine says of images RGB ``uint8 [h,w,3]``."""
        outputs = self._pipeline.run(images)
        return [self._predicted(*pair) for pair in zip(images, outputs, strict=True)]

    def _predicted(self, image: Bytes, output: FrameOutput) -> FramePrediction:
        mask = anomaly_mask(output.anomaly, self._threshold, self._min_area)
        shift = self._meter.measure(output, self._threshold, self._min_area)
        return FramePrediction(image, output.labels, mask, self._classes, shift, output.anomaly)


def predict(
    image: Bytes | Path | str,
    engine: Engine | None = None,
    *,
    threshold: float = 0.5,
    min_area: int = 0,
) -> FramePrediction:
    """Return what an engine says of an image.

    Args:
        image: RGB ``uint8 [h,w,3]``, or the path of a JPEG, PNG or WebP file.
        engine: loaded (``Engine.load(BUNDLE)``); None for the embedded one, which stays loaded.
        threshold: calibrated score from which a pixel is anomalous, 0..1.
        min_area: pixels that an anomalous region has at least.

    Raises:
        MultishiftError: the file cannot be read, or the array is no such image; or the engine is
            none, or the threshold not in 0..1.
    """
    if not isinstance(engine, Engine | None):
        raise MultishiftError(
            f'the engine is a {type(engine).__name__}: give Engine.load(BUNDLE), of '
            'multishift_perception.engine'
        )
    pixels = _read(Path(image)) if isinstance(image, str | Path) else _checked(image)
    loaded = _embedded() if engine is None else engine
    return Predictor(loaded, threshold=threshold, min_area=min_area)([pixels])[0]


@lru_cache(maxsize=1)
def _embedded() -> Engine:
    return Engine.load(None)


def _read(path: Path) -> Bytes:
    try:
        return decode_file(path.read_bytes())
    except OSError as error:
        raise MultishiftError(f'{path}: cannot be read ({error.strerror})') from error
    except FrameError as error:
        raise MultishiftError(f'{path}: {error}') from error


def _checked(image: Bytes) -> Bytes:
    if not isinstance(image, np.ndarray):
        raise MultishiftError(
            f'the image is a {type(image).__name__}: give an array, RGB uint8 [h,w,3], or a path'
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise MultishiftError(
            f'the image is {image.dtype} {list(image.shape)}: give RGB uint8 [h,w,3]'
        )
    return np.ascontiguousarray(image)

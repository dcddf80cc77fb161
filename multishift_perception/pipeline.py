# SPDX-License-Identifier: Apache-2.0
"""From camera frames to labels and anomaly: the one path that node, replay and evaluation share.

What is measured is what drives: nobody else resizes, batches or thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes, as_bytes
from multishift_perception.engine import EngineOutput, Look
from multishift_perception.images.picture import Picture
from multishift_perception.images.resizing import fit, given, resize_labels, resize_scores

OutputSize = Literal['camera', 'engine']

# Anomaly 128 is the operating point and must read 0.5; 255 must read 1.
_LEVELS, _UNITS = (0, 128, 255), (0.0, 0.5, 1.0)
_UNIT = np.interp(np.arange(256), _LEVELS, _UNITS).astype(np.float32)


class FrameOutput:
    """What the engine says of one frame, at camera or engine size (height h, width w).

    What nobody asks for is not enlarged; what somebody does is once.
    """

    def __init__(
        self,
        labels: Bytes,
        anomaly: Bytes,
        score: NDArray[np.float32],
        size: tuple[int, ...] | None = None,
        look: NDArray[np.float32] | None = None,
        covariate_shift: float | None = None,
    ) -> None:
        """Hold what an engine said.

        Args:
            labels: as the engine gives them, ``uint8 [H,W]``.
            anomaly: likewise, ``uint8 [H,W]``.
            score: likewise, ``float32 [H,W]``.
            size: height and width of the attributes; None: those of the engine.
            look: likewise, ``float32 [K]``; None of engines that give none.
            covariate_shift: how far that lies from what the engine knows, see `Look`; None of
                engines that do not tell.
        """
        self.engine_labels = labels
        self.engine_anomaly = anomaly
        self.look = look
        self.covariate_shift = covariate_shift
        self._score = score
        height, width = labels.shape if size is None else size
        self.size: tuple[int, int] = height, width

    @cached_property
    def labels(self) -> Bytes:
        """``uint8 [h,w]``, index of the most likely known class."""
        return resize_labels(self.engine_labels, self.size)

    @cached_property
    def anomaly(self) -> Bytes:
        """``uint8 [h,w]``, calibrated uncertainty; 128 is the operating point."""
        return resize_scores(self.engine_anomaly, self.size)

    @cached_property
    def score(self) -> NDArray[np.float32]:
        """``float32 [h,w]``, raw uncertainty, larger is more anomalous."""
        return resize_scores(self._score, self.size)


class FrameEngine(Protocol):
    """What the pipeline asks of an engine."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Frames of the largest call, height and width."""

    @property
    def look(self) -> Look | None:
        """How the images look that the network knows; None where nothing tells."""

    def call_size(self, waiting: int) -> int:
        """Return how many frames the next call has where so many wait."""

    def infer(self, frames: Bytes) -> EngineOutput:
        """Run RGB frames ``uint8 [N,H,W,3]`` of the engine's size, N as ``call_size`` says."""


class Pipeline:
    """Runs frames of any size through an engine of fixed size; for one thread at a time."""

    def __init__(self, engine: FrameEngine, *, output_size: OutputSize = 'camera') -> None:
        """Wrap an engine.

        Args:
            engine: the loaded engine.
            output_size: ``camera`` aligns the outputs with the input pixels; ``engine`` leaves
                them at the network's resolution.
        """
        self._engine = engine
        self._output_size = output_size
        # Slots without a frame hold an earlier one; what the engine says of them is not read.
        self._input = np.zeros((*engine.input_shape, 3), np.uint8)

    def run(self, frames: Sequence[Bytes | Picture]) -> list[FrameOutput]:
        """Run frames, RGB ``uint8 [h,w,3]`` or pictures, each of its own size, in few calls."""
        _, height, width = self._engine.input_shape
        outputs: list[FrameOutput] = []
        while len(outputs) < len(frames):
            batch = self._engine.call_size(len(frames) - len(outputs))
            group = frames[len(outputs) : len(outputs) + batch]
            for slot, frame in zip(self._input, group, strict=False):
                _fit_into(slot, frame, (height, width))
            said = self._engine.infer(self._input[:batch])
            for i, frame in enumerate(group):
                size = frame.shape[:2] if self._output_size == 'camera' else None
                outputs.append(
                    FrameOutput(
                        said.label[i], said.anomaly[i], said.score[i], size, *self._look(said, i)
                    )
                )
        return outputs

    def _look(self, said: EngineOutput, i: int) -> tuple[NDArray[np.float32] | None, float | None]:
        """Return a frame's statistics and their distance, as far as the engine tells them."""
        if said.look is None:
            return None, None
        look = said.look[i]
        known = self._engine.look
        return look, None if known is None else float(known.distances(look[None])[0])


def score_unit(anomaly: Bytes, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the calibrated score ``float32`` in 0..1 of an anomaly map; 0.5 = operating point.

    Args:
        anomaly: ``uint8 [h,w]``, as in ``FrameOutput``.
        out: where to write the result.
    """
    return np.asarray(cv2.LUT(anomaly, _UNIT, dst=out), np.float32)


def confidence(anomaly: Bytes, out: Bytes | None = None) -> Bytes:
    """Return how far labels can be believed, ``uint8``, 255 is most.

    It is what the anomaly lacks to 255, 127 at the operating point, and not the softmax of the
    label's class: networks give things of no known class a label with the highest softmax, just
    where a planner should not believe it.

    Args:
        anomaly: ``uint8 [h,w]``, as in ``FrameOutput``.
        out: where to write the result.
    """
    return as_bytes(cv2.bitwise_not(anomaly, dst=out))


def anomaly_levels(score: NDArray[np.float32]) -> Bytes:
    """Return the anomaly map ``uint8`` of which `score_unit` makes calibrated scores."""
    return np.rint(np.interp(score, _UNITS, _LEVELS)).astype(np.uint8)


def anomaly_mask(
    anomaly: Bytes, threshold: float, min_area: int = 0, out: Bytes | None = None
) -> Bytes:
    """Return 255 where the calibrated score reaches the threshold, else 0.

    Args:
        anomaly: ``uint8 [h,w]``, as in ``FrameOutput``.
        threshold: 0..1 on the calibrated scale.
        min_area: connected regions (8 neighbours) of fewer pixels are dropped.
        out: where to write the result.

    Returns:
        ``uint8 [h,w]``.
    """
    # The scale rises: from some value on all are anomalous.
    below = int(np.count_nonzero(_UNIT < threshold))
    if below == 0:
        return given(np.full_like(anomaly, 255), out)
    _, mask = cv2.threshold(anomaly, below - 1, 255, cv2.THRESH_BINARY, dst=out)
    if min_area > 1:
        count, regions, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        keep = stats[:count, cv2.CC_STAT_AREA] >= min_area
        keep[0] = False  # region 0 is the background
        mask[...] = np.where(keep, 255, 0).astype(np.uint8)[regions]
    return as_bytes(mask)


def _fit_into(slot: Bytes, frame: Bytes | Picture, size: tuple[int, int]) -> None:
    if isinstance(frame, Picture):
        # Fewer pixels are left to convert once it is small.
        frame.like(fit(frame.pixels, size)).rgb(out=slot)
    else:
        fit(frame, size, out=slot)

# SPDX-License-Identifier: Apache-2.0
"""From camera frames to labels and anomaly: the one path that node, replay and evaluation share.

What is measured is what drives: nobody else resizes, batches or thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes
from multishift_perception.engine import EngineOutput

OutputSize = Literal['camera', 'engine']
_Number = TypeVar('_Number', np.uint8, np.float32)

# Anomaly 128 is the operating point and must read 0.5; 255 must read 1.
_UNIT = np.interp(np.arange(256), [0, 128, 255], [0, 0.5, 1]).astype(np.float32)


@dataclass(frozen=True)
class FrameOutput:
    """What the engine says of one frame, at camera or engine size (height h, width w).

    Attributes:
        labels: ``uint8 [h,w]``, index of the most likely known class.
        anomaly: ``uint8 [h,w]``, calibrated uncertainty; 128 is the operating point.
        score: ``float32 [h,w]``, raw uncertainty, larger is more anomalous.
    """

    labels: Bytes
    anomaly: Bytes
    score: NDArray[np.float32]


class FrameEngine(Protocol):
    """What the pipeline asks of an engine."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Frames of the largest call, height and width."""

    def call_size(self, waiting: int) -> int:
        """Return how many frames the next call has where so many wait."""

    def infer(self, frames: Bytes) -> EngineOutput:
        """Run RGB frames ``uint8 [N,H,W,3]`` of the engine's size, N as ``call_size`` says."""


class Pipeline:
    """Runs frames of any size through an engine of fixed size."""

    def __init__(self, engine: FrameEngine, *, output_size: OutputSize = 'camera') -> None:
        """Wrap an engine.

        Args:
            engine: the loaded engine.
            output_size: ``camera`` aligns the outputs with the input pixels; ``engine`` leaves
                them at the network's resolution.
        """
        self._engine = engine
        self._output_size = output_size

    def run(self, frames: Sequence[Bytes]) -> list[FrameOutput]:
        """Run RGB frames ``uint8 [h,w,3]``, each of its own size, in as few calls as possible."""
        _, height, width = self._engine.input_shape
        outputs: list[FrameOutput] = []
        while len(outputs) < len(frames):
            batch = self._engine.call_size(len(frames) - len(outputs))
            group = frames[len(outputs) : len(outputs) + batch]
            # Slots without a frame stay zero; what the engine says of them is not read.
            stacked = np.zeros((batch, height, width, 3), np.uint8)
            for slot, frame in zip(stacked, group, strict=False):
                fit(frame, (height, width), out=slot)
            result = self._engine.infer(stacked)
            for i, frame in enumerate(group):
                output = FrameOutput(result.label[i], result.anomaly[i], result.score[i])
                outputs.append(self._at_output_size(output, frame))
        return outputs

    def _at_output_size(self, output: FrameOutput, frame: Bytes) -> FrameOutput:
        size = frame.shape[:2]
        if self._output_size == 'engine' or output.labels.shape == size:
            return output
        return FrameOutput(
            resize_labels(output.labels, size),
            resize_scores(output.anomaly, size),
            resize_scores(output.score, size),
        )


def resize_labels(labels: Bytes, size: tuple[int, ...]) -> Bytes:
    """Return labels ``uint8 [h,w]`` at another size (height, width), the one way it is done."""
    height, width = size
    # By pixel centres, as scores are; plain INTER_NEAREST is off by up to half a pixel.
    return _u8(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def resize_scores(scores: NDArray[_Number], size: tuple[int, ...]) -> NDArray[_Number]:
    """Return scores ``[h,w]`` at another size (height, width), the one way it is done."""
    height, width = size
    resized = cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, scores.dtype)


def score_unit(anomaly: Bytes) -> NDArray[np.float32]:
    """Return the calibrated score ``float32`` in 0..1 of an anomaly map; 0.5 = operating point."""
    return np.asarray(_UNIT[anomaly], np.float32)


def anomaly_mask(anomaly: Bytes, threshold: float, min_area: int = 0) -> Bytes:
    """Return 255 where the calibrated score reaches the threshold, else 0.

    Args:
        anomaly: ``uint8 [h,w]``, as in ``FrameOutput``.
        threshold: 0..1 on the calibrated scale.
        min_area: connected regions (8 neighbours) of fewer pixels are dropped.

    Returns:
        ``uint8 [h,w]``.
    """
    mask = np.where(_UNIT >= threshold, 255, 0).astype(np.uint8)[anomaly]
    if min_area > 1:
        count, regions, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        keep = stats[:count, cv2.CC_STAT_AREA] >= min_area
        keep[0] = False  # region 0 is the background
        mask = np.where(keep, 255, 0).astype(np.uint8)[regions]
    return mask


def fit(frame: Bytes, size: tuple[int, int], out: Bytes | None = None) -> Bytes:
    """Return a frame ``uint8 [h,w,3]`` stretched to ``size`` (height, width), as engines get it.

    Training resizes its images by this too, so that a network learns from what it will see.

    Args:
        frame: the frame.
        size: height and width in pixels.
        out: where to write the result, ``uint8 [height,width,3]``.
    """
    if frame.shape[:2] == size:
        if out is None:
            return frame
        np.copyto(out, frame)
        return out
    height, width = size
    shrinks = frame.shape[0] > height and frame.shape[1] > width
    # Area averaging keeps thin objects when shrinking; it is slower and no better when growing.
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return _u8(cv2.resize(frame, (width, height), dst=out, interpolation=method))


def _u8(array: object) -> Bytes:
    return np.asarray(array, np.uint8)

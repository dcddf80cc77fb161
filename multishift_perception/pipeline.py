# SPDX-License-Identifier: Apache-2.0
"""From camera frames to labels and anomaly: the one path that node, replay and evaluation share.

What is measured is what drives: nobody else resizes, batches or thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import Bytes, as_bytes
from multishift_perception.engine import ALL_PARTS, EngineOutput, Look, Part, Parts, PictureCall
from multishift_perception.images.picture import Picture
from multishift_perception.images.resizing import copy_to, fit, resize_labels, resize_scores

OutputSize = Literal['camera', 'engine']
_Number = TypeVar('_Number', np.uint8, np.float32)

# Anomaly 128 is the operating point and must read 0.5; 255 must read 1.
_LEVELS, _UNITS = (0, 128, 255), (0.0, 0.5, 1.0)
_UNIT = np.interp(np.arange(256), _LEVELS, _UNITS).astype(np.float32)


class FrameOutput:
    """What the engine says of one frame, at camera or engine size (height h, width w).

    What nobody reads is not enlarged; what somebody does is enlarged once. A part that was not
    asked of the pipeline is not there: to read it raises AttributeError.

    Attributes:
        size: height and width of the outputs.
        look: statistics of how the frame looks, ``float32 [K]``; None of engines that give none.
        covariate_shift: how far that lies from what the engine knows, see `Look`; None likewise.
    """

    def __init__(
        self,
        labels: Bytes | None,
        anomaly: Bytes | None,
        score: NDArray[np.float32] | None,
        size: tuple[int, ...] | None = None,
        *,
        engine_labels: Bytes | None = None,
        engine_anomaly: Bytes | None = None,
        look: NDArray[np.float32] | None = None,
        confidence: Bytes | None = None,
        covariate_shift: float | None = None,
    ) -> None:
        """Hold what an engine said.

        Args:
            labels: ``uint8 [H,W]``, of the engine's size or that of the attributes.
            anomaly: likewise, ``uint8 [H,W]``.
            score: as the engine gives them, ``float32 [H,W]``.
            size: height and width of the attributes; None: those of the labels.
            engine_labels: as the engine gives them, where ``labels`` are larger.
            engine_anomaly: likewise.
            look: see the attribute.
            confidence: as the labels, ``uint8 [H,W]``; None of engines that give none.
            covariate_shift: see the attribute.
        """
        self._labels = labels
        self._anomaly = anomaly
        self.look = look
        self.covariate_shift = covariate_shift
        self._score = score
        self._confidence = confidence
        self._engine_labels = labels if engine_labels is None else engine_labels
        self._engine_anomaly = anomaly if engine_anomaly is None else engine_anomaly
        height, width = _require(labels).shape if size is None else size
        self.size: tuple[int, int] = height, width

    @property
    def engine_labels(self) -> Bytes:
        """``uint8 [H,W]``, labels of the engine's size, or the smallest that there are."""
        return _require(self._engine_labels)

    @property
    def engine_anomaly(self) -> Bytes:
        """``uint8 [H,W]``, the anomaly likewise."""
        return _require(self._engine_anomaly)

    @cached_property
    def labels(self) -> Bytes:
        """``uint8 [h,w]``, index of the most likely known class."""
        return self.write_labels(None)

    def write_labels(self, out: Bytes | None) -> Bytes:
        """Return the labels, written to ``out`` where that is given."""
        return resize_labels(_require(self._labels), self.size, out=out)

    @cached_property
    def anomaly(self) -> Bytes:
        """``uint8 [h,w]``, calibrated uncertainty; 128 is the operating point."""
        return resize_scores(_require(self._anomaly), self.size)

    @property
    def tells_confidence(self) -> bool:
        """Whether there is a confidence: older engines give none."""
        return self._confidence is not None

    @cached_property
    def confidence(self) -> Bytes:
        """``uint8 [h,w]``, probability of the label, 255 is certain."""
        return self.write_confidence(None)

    def write_confidence(self, out: Bytes | None) -> Bytes:
        """Return the confidence, written to ``out`` where that is given.

        Raises:
            AttributeError: it was not asked of the pipeline, or the engine is too old to give one.
        """
        return resize_scores(_require(self._confidence), self.size, out=out)

    @cached_property
    def score(self) -> NDArray[np.float32]:
        """``float32 [h,w]``, raw uncertainty, larger is more anomalous."""
        return resize_scores(_require(self._score), self.size)


@dataclass(frozen=True)
class Pixels:
    """A frame and what was said of it, all of the same height and width.

    Attributes:
        image: RGB ``uint8 [h,w,3]``.
        labels: predicted class, ``uint8 [h,w]``.
        mask: not zero where an anomaly is reported, ``uint8 [h,w]``.
        anomaly: calibrated uncertainty, ``uint8 [h,w]``; 128 is the operating point.
        truth: labels ``uint8 [h,w]``: class, 254 novel, 255 void; None without ground truth.
    """

    image: Bytes
    labels: Bytes
    mask: Bytes
    anomaly: Bytes
    truth: Bytes | None = None


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

    @property
    def takes_pictures(self) -> bool:
        """Whether it shrinks pictures itself; if not, ``run_pictures`` is not called."""

    def run_pictures(self, calls: Sequence[PictureCall], batch: int) -> Sequence[Parts]:
        """Run pictures of any size in a call of so many frames; see `Engine.run_pictures`."""


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
        shape = (0, 0, 0) if engine.takes_pictures else engine.input_shape
        # Slots without a frame hold an earlier one; what the engine says of them is not read.
        self._input = np.zeros((*shape, 3), np.uint8)

    def run(
        self,
        frames: Sequence[Bytes | Picture],
        wanted: Sequence[frozenset[Part]] | None = None,
    ) -> list[FrameOutput]:
        """Run frames, RGB ``uint8 [h,w,3]`` or pictures, each of its own size, in few calls.

        Args:
            frames: the frames.
            wanted: which parts of each frame's output will be read: a GPU does not send the
                others; None: all may be.
        """
        outputs: list[FrameOutput] = []
        while len(outputs) < len(frames):
            first = len(outputs)
            batch = self._engine.call_size(len(frames) - first)
            group = frames[first : first + batch]
            if self._engine.takes_pictures:
                parts = wanted[first : first + batch] if wanted else [ALL_PARTS] * len(group)
                outputs += self._run_pictures(group, parts, batch)
            else:
                outputs += self._run_fitted(group, batch)
        return outputs

    def _run_fitted(self, frames: Sequence[Bytes | Picture], batch: int) -> Iterator[FrameOutput]:
        """Shrink here, call the engine, and let each output be enlarged here when it is read."""
        for slot, frame in zip(self._input, frames, strict=False):
            _fit_into(slot, frame, self._engine.input_shape[1:])
        said = self._engine.infer(self._input[:batch])
        for i, frame in enumerate(frames):
            look = None if said.look is None else said.look[i]
            yield FrameOutput(
                said.label[i],
                said.anomaly[i],
                said.score[i],
                self._size_of(frame),
                look=look,
                confidence=None if said.confidence is None else said.confidence[i],
                covariate_shift=self._distance(look),
            )

    def _run_pictures(
        self,
        frames: Sequence[Bytes | Picture],
        wanted: Sequence[frozenset[Part]],
        batch: int,
    ) -> Iterator[FrameOutput]:
        """Let the engine shrink and enlarge, where it runs."""
        calls = [
            PictureCall(
                frame if isinstance(frame, Picture) else Picture(frame),
                self._size_of(frame),
                parts,
            )
            for frame, parts in zip(frames, wanted, strict=True)
        ]
        found = self._engine.run_pictures(calls, batch)
        for call, parts in zip(calls, found, strict=True):
            yield FrameOutput(
                parts.get('labels'),
                parts.get('anomaly'),
                parts.get('score'),
                call.size,
                engine_labels=parts.get('engine_labels'),
                engine_anomaly=parts.get('engine_anomaly'),
                look=parts.get('look'),
                confidence=parts.get('confidence'),
                covariate_shift=self._distance(parts.get('look')),
            )

    def _size_of(self, frame: Bytes | Picture) -> tuple[int, int]:
        """Return height and width of a frame's outputs."""
        shape = frame.shape if self._output_size == 'camera' else self._engine.input_shape[1:]
        return shape[0], shape[1]

    def _distance(self, look: NDArray[np.float32] | None) -> float | None:
        """Return how far a look lies from what the engine knows, where there are both."""
        known = self._engine.look
        return None if look is None or known is None else float(known.distances(look[None])[0])


def score_unit(anomaly: Bytes, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the calibrated score ``float32`` in 0..1 of an anomaly map; 0.5 = operating point.

    Args:
        anomaly: ``uint8 [h,w]``, as in ``FrameOutput``.
        out: where to write the result.
    """
    return np.asarray(cv2.LUT(anomaly, _UNIT, dst=out), np.float32)


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
        return copy_to(np.full_like(anomaly, 255), out)
    _, mask = cv2.threshold(anomaly, below - 1, 255, cv2.THRESH_BINARY, dst=out)
    if min_area > 1:
        count, regions, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        keep = stats[:count, cv2.CC_STAT_AREA] >= min_area
        keep[0] = False  # region 0 is the background
        mask[...] = np.where(keep, 255, 0).astype(np.uint8)[regions]
    return as_bytes(mask)


def engine_mask(output: FrameOutput, threshold: float, min_area: int = 0) -> Bytes:
    """Return `anomaly_mask` of a frame at the engine's size, where it costs a fraction.

    Args:
        output: what the engine said of the frame.
        threshold: as there.
        min_area: pixels of the output, of which a region has fewer where the engine's are larger.
    """
    anomaly = output.engine_anomaly
    scale = anomaly.size / (output.size[0] * output.size[1])
    return anomaly_mask(anomaly, threshold, round(min_area * scale))


def _require(part: NDArray[_Number] | None) -> NDArray[_Number]:
    if part is None:
        raise AttributeError(
            'this part of the output was not asked of the pipeline, or the engine gives none'
        )
    return part


def _fit_into(slot: Bytes, frame: Bytes | Picture, size: tuple[int, int]) -> None:
    if isinstance(frame, Picture):
        # Fewer pixels are left to convert once it is small.
        frame.like(fit(frame.pixels, size)).rgb(out=slot)
    else:
        fit(frame, size, out=slot)

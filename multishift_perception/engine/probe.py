# SPDX-License-Identifier: Apache-2.0
"""Probe frames: proof, after every load, that an artifact still computes what was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from multishift_perception.arrays import read_archive
from multishift_perception.engine.manifest import Calibration, Parity
from multishift_perception.engine.types import Backend, EngineOutput
from multishift_perception.errors import MultishiftError


class Bounds(NamedTuple):
    """How far an artifact may be from the eager model on the probe frames.

    Attributes:
        label_agreement: least share of pixels with the same label, in every call.
        score_error: largest difference of any score, relative to the spread of the expected ones,
            so that one bound suits every score.
        confidence_error: mean difference of the confidence, relative to the mean distance of the
            expected ones from their median. No constant comes nearer than 1: networks are sure of
            most pixels, so that one value for all of them may be off by a few hundredths only.
    """

    label_agreement: float
    score_error: float
    confidence_error: float


_FLOAT = Bounds(0.99, 0.05, 0.1)
# Rounding to 256 values moves labels along the borders of things, and single scores far: what that
# costs, metrics on many frames tell. Those of fp8 lie further apart where most values are.
BOUNDS: Mapping[str, Bounds] = MappingProxyType(
    {
        'fp32': _FLOAT,
        'fp16': _FLOAT,
        'bf16': _FLOAT,
        'int8': Bounds(0.96, 0.25, 0.25),
        'fp8': Bounds(0.95, 0.25, 0.25),
    }
)
_AGAIN = 'build the bundle again on this machine'
# Networks score at a quarter of the input size: every fourth pixel says as much, in little space.
_SCORE_STRIDE = 4


class Proof(NamedTuple):
    """How far an artifact is from the eager model, within the bounds.

    Attributes:
        parity: of labels and scores.
        anomaly_error: largest difference of the anomaly, of 255.
    """

    parity: Parity
    anomaly_error: int

    def worst(self, other: Proof) -> Proof:
        """Return the larger of each difference."""
        mine, theirs = self.parity, other.parity
        return Proof(
            Parity(
                label_agreement=min(mine.label_agreement, theirs.label_agreement),
                score_error=max(mine.score_error, theirs.score_error),
            ),
            max(self.anomaly_error, other.anomaly_error),
        )


@dataclass(frozen=True)
class ProbeSet:
    """Frames and what the eager model makes of them.

    Attributes:
        frames: RGB ``uint8 [K,N,H,W,3]``: K calls of the engine.
        label: expected labels ``uint8 [K,N,H,W]``.
        score: expected raw scores of every fourth row and column, ``float32 [K,N,H/4,W/4]``.
        look: expected statistics ``float32 [K,N,D]``; none, D = 0, of graphs without.
        confidence: expected confidence of the pixels of ``score``, ``uint8``; none, of 0 rows, of
            graphs without.
    """

    frames: NDArray[np.uint8]
    label: NDArray[np.uint8]
    score: NDArray[np.float32]
    look: NDArray[np.float32]
    confidence: NDArray[np.uint8]

    @classmethod
    def of(cls, frames: NDArray[np.uint8], expected: list[EngineOutput]) -> ProbeSet:
        """Make a set of frames and the eager model's K outputs for them."""
        score = np.stack([_sparse(e.score) for e in expected])
        label = np.stack([e.label for e in expected])
        return cls(frames, label, score, _looks(expected), _confidences(expected))

    def save(self, path: Path) -> None:
        """Write the set as a compressed NumPy archive."""
        np.savez_compressed(
            path,
            frames=self.frames,
            label=self.label,
            score=self.score,
            look=self.look,
            confidence=self.confidence,
        )

    @classmethod
    def load(cls, path: Path) -> ProbeSet:
        """Read a set; raises MultishiftError where the file is no such archive."""
        try:
            arrays = read_archive(path)
            frames, label, score = (arrays[name] for name in ('frames', 'label', 'score'))
        except (OSError, ValueError, KeyError) as error:
            raise MultishiftError(
                f'{path} holds no probe frames ({error}): build the bundle again'
            ) from None
        # Archives of graphs without them may have none.
        no_look = np.zeros((*frames.shape[:2], 0), np.float32)
        no_confidence = np.zeros((*frames.shape[:2], 0, score.shape[3]), np.uint8)
        look, confidence = arrays.get('look', no_look), arrays.get('confidence', no_confidence)
        return cls(frames, label, score, look, confidence)

    def in_calls_of(self, batch: int) -> ProbeSet:
        """Return the same frames in calls of so many, from the start again to fill the last."""
        count = self.frames.shape[0] * self.frames.shape[1]
        chosen = np.arange(-(-count // batch) * batch) % count

        def regrouped(values: NDArray[Any]) -> NDArray[Any]:
            each = values.reshape(count, *values.shape[2:])[chosen]
            return np.asarray(each.reshape(len(chosen) // batch, batch, *values.shape[2:]))

        return ProbeSet(
            regrouped(self.frames),
            regrouped(self.label),
            regrouped(self.score),
            regrouped(self.look),
            regrouped(self.confidence),
        )

    def outputs(self, backend: Backend) -> list[EngineOutput]:
        """Return what a backend makes of the frames, call by call."""
        return [backend.run(frames) for frames in self.frames]

    def prove(
        self,
        backend: Backend,
        calibration: Calibration,
        artifact: Path,
        precision: str,
        batches: Sequence[int],
        *,
        mend: str = _AGAIN,
    ) -> Proof:
        """Run the frames in calls of each size, and compare what comes out.

        Args:
            backend: runs the artifact.
            calibration: that the artifact should hold.
            artifact: its file, for the error.
            precision: of the artifact, which decides the bounds.
            batches: how many frames its calls take.
            mend: what to do where labels or scores differ by too much, for the error.

        Raises:
            MultishiftError: the outputs differ by more than the bounds.
        """
        proofs = (
            self.in_calls_of(batch)._proof(backend, calibration, artifact, precision, mend)
            for batch in batches
        )
        return reduce(Proof.worst, proofs)

    def _proof(
        self,
        backend: Backend,
        calibration: Calibration,
        artifact: Path,
        precision: str,
        mend: str,
    ) -> Proof:
        outputs = self.outputs(backend)
        parity = self.parity(outputs)
        bounds = BOUNDS[precision]
        score_error = bounds.score_error * self.spread
        _check_parity(parity, bounds.label_agreement, score_error, artifact, mend)
        _check_anomaly(self, outputs, calibration, score_error, artifact)
        _check_look(self, outputs, bounds.score_error, artifact, mend)
        _check_confidence(self, outputs, bounds.confidence_error, artifact, mend)
        return Proof(parity, self.anomaly_error(outputs, calibration))

    def parity(self, outputs: Sequence[EngineOutput]) -> Parity:
        """Return the largest difference of any call's outputs from the expected ones."""
        agreement, score_error = 1.0, 0.0
        for output, label, score in zip(outputs, self.label, self.score, strict=True):
            agreement = min(agreement, float(np.mean(output.label == label)))
            error = np.abs(_sparse(output.score) - score)
            # max() of a NaN compares false everywhere: count it as an infinite error.
            score_error = max(score_error, float(np.nan_to_num(error, nan=np.inf).max()))
        return Parity(label_agreement=agreement, score_error=score_error)

    def anomaly_error(self, outputs: Sequence[EngineOutput], calibration: Calibration) -> int:
        """Return the largest difference of the anomaly from the expected scores' calibration."""
        expected = calibration.anomaly(self.score).astype(int)
        found = np.stack([_sparse(output.anomaly) for output in outputs])
        return int(np.abs(found.astype(int) - expected).max())

    @property
    def spread(self) -> float:
        """Largest less least of the expected scores."""
        return float(self.score.max() - self.score.min())


def _check_parity(
    parity: Parity, agreement: float, bound: float, artifact: Path, mend: str
) -> None:
    """Raise MultishiftError where an artifact differs from the eager model by too much."""
    if parity.label_agreement < agreement or not parity.score_error <= bound:
        raise MultishiftError(
            f'{artifact} does not compute what was trained: on the probe frames '
            f'{parity.label_agreement:.4f} of the labels agree (at least {agreement}) '
            f'and the score differs by {parity.score_error:.3g} (at most {bound:.3g}): {mend}'
        )


def _check_anomaly(
    probe: ProbeSet,
    outputs: Sequence[EngineOutput],
    calibration: Calibration,
    bound: float,
    artifact: Path,
) -> None:
    """Raise MultishiftError where anomalies lie outside what the score's bound allows.

    The bound is that of the score, through the manifest's calibration: an artifact with a right
    score and an anomaly outside was built with another calibration.
    """
    found = np.stack([_sparse(output.anomaly) for output in outputs])
    # One step more, as it is rounded.
    low = calibration.anomaly(probe.score - bound).astype(int) - 1
    high = calibration.anomaly(probe.score + bound).astype(int) + 1
    outside = (found < low) | (found > high)
    if outside.any():
        raise MultishiftError(
            f'{artifact} does not calibrate as its manifest says: {outside.mean():.2%} of the '
            'anomalies of the probe frames are off: build the bundle again'
        )


def _check_look(
    probe: ProbeSet, outputs: Sequence[EngineOutput], bound: float, artifact: Path, mend: str
) -> None:
    """Raise MultishiftError where statistics differ by more than a part of their spread."""
    found = _looks(outputs)
    if found.shape == probe.look.shape:
        if not found.size:
            return
        error = np.nan_to_num(np.abs(found - probe.look), nan=np.inf).max()
        if error <= bound * np.ptp(probe.look):
            return
        what = f'differ by {error:.3g} (at most {bound * np.ptp(probe.look):.3g})'
    else:
        what = f'are {found.shape[2]} and not {probe.look.shape[2]}'
    raise MultishiftError(
        f'{artifact} does not compute what was trained: statistics of how the probe frames look '
        f'{what}: {mend}'
    )


def _check_confidence(
    probe: ProbeSet, outputs: Sequence[EngineOutput], bound: float, artifact: Path, mend: str
) -> None:
    """Raise MultishiftError where confidences differ, on average, by more than a part of theirs.

    A single one may differ by all, where a border moves by a pixel; and all of them by a step, as
    they are rounded.
    """
    found, expected = _confidences(outputs), probe.confidence
    if found.shape == expected.shape:
        if not found.size:
            return
        error = np.abs(found.astype(int) - expected).mean()
        limit = max(1.0, bound * np.abs(expected - np.median(expected)).mean())
        if error <= limit:
            return
        what = f'differs by {error:.2f} of 255 on average (at most {limit:.2f})'
    else:
        what = 'is missing' if expected.size else 'was not there when the bundle was built'
    raise MultishiftError(
        f'{artifact} does not compute what was trained: the confidence on the probe frames '
        f'{what}: {mend}'
    )


def _confidences(outputs: Sequence[EngineOutput]) -> NDArray[np.uint8]:
    sparse = (
        _sparse(output.score)[:, :0].astype(np.uint8)
        if output.confidence is None
        else _sparse(output.confidence)
        for output in outputs
    )
    return np.stack(list(sparse))


def _looks(outputs: Sequence[EngineOutput]) -> NDArray[np.float32]:
    none = np.zeros((len(outputs[0].label), 0), np.float32)
    return np.stack([none if output.look is None else output.look for output in outputs])


def _sparse(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[..., ::_SCORE_STRIDE, ::_SCORE_STRIDE]

"""Probe frames: proof, after every load, that an artifact still computes what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multishift_perception.engine.manifest import Calibration, Parity
from multishift_perception.engine.types import Backend, EngineOutput
from multishift_perception.errors import MultishiftError

MIN_LABEL_AGREEMENT = 0.99
# Relative to the spread of the expected scores, so that one bound suits every score.
MAX_SCORE_ERROR = 0.05
# Networks score at a quarter of the input size: every fourth pixel says as much, in little space.
_SCORE_STRIDE = 4


@dataclass(frozen=True)
class ProbeSet:
    """Frames and what the eager model makes of them.

    Attributes:
        frames: RGB ``uint8 [K,N,H,W,3]``: K calls of the engine.
        label: expected labels ``uint8 [K,N,H,W]``.
        score: expected raw scores of every fourth row and column, ``float32 [K,N,H/4,W/4]``.
    """

    frames: NDArray[np.uint8]
    label: NDArray[np.uint8]
    score: NDArray[np.float32]

    @classmethod
    def of(cls, frames: NDArray[np.uint8], expected: list[EngineOutput]) -> ProbeSet:
        """Make a set of frames and the eager model's K outputs for them."""
        score = np.stack([_sparse(e.score) for e in expected])
        return cls(frames, np.stack([e.label for e in expected]), score)

    def save(self, path: Path) -> None:
        """Write the set as a compressed NumPy archive."""
        np.savez_compressed(path, frames=self.frames, label=self.label, score=self.score)

    @classmethod
    def load(cls, path: Path) -> ProbeSet:
        """Read a set; raises MultishiftError where the file is no such archive."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                return cls(archive['frames'], archive['label'], archive['score'])
        except (OSError, ValueError, KeyError) as error:
            raise MultishiftError(
                f'{path} holds no probe frames ({error}): build the bundle again'
            ) from None

    def outputs(self, backend: Backend) -> list[EngineOutput]:
        """Return what a backend makes of the frames, call by call."""
        return [backend.run(frames) for frames in self.frames]

    def measure(self, backend: Backend) -> Parity:
        """Run the frames and return the largest difference from the expected outputs."""
        return self.parity(self.outputs(backend))

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
        expected = _calibrated(calibration, self.score)
        found = np.stack([_sparse(output.anomaly) for output in outputs])
        return int(np.abs(found.astype(int) - expected).max())

    @property
    def max_score_error(self) -> float:
        """Bound of the score's error."""
        return MAX_SCORE_ERROR * float(self.score.max() - self.score.min())


def check_parity(probe: ProbeSet, parity: Parity, artifact: Path) -> None:
    """Raise MultishiftError where an artifact differs from the eager model by too much."""
    bound = probe.max_score_error
    if parity.label_agreement < MIN_LABEL_AGREEMENT or not parity.score_error <= bound:
        raise MultishiftError(
            f'{artifact} does not compute what was trained: on the probe frames '
            f'{parity.label_agreement:.4f} of the labels agree (at least {MIN_LABEL_AGREEMENT}) '
            f'and the score differs by {parity.score_error:.3g} (at most {bound:.3g}): '
            'build the bundle again on this machine'
        )


def check_anomaly(
    probe: ProbeSet, outputs: Sequence[EngineOutput], calibration: Calibration, artifact: Path
) -> None:
    """Raise MultishiftError where anomalies lie outside what the score's bound allows.

    The bound is that of the score, through the manifest's calibration: an artifact with a right
    score and an anomaly outside was built with another calibration.
    """
    found = np.stack([_sparse(output.anomaly) for output in outputs])
    bound = probe.max_score_error
    # One step more, as it is rounded.
    low = _calibrated(calibration, probe.score - bound) - 1
    high = _calibrated(calibration, probe.score + bound) + 1
    outside = (found < low) | (found > high)
    if outside.any():
        raise MultishiftError(
            f'{artifact} does not calibrate as its manifest says: {outside.mean():.2%} of the '
            'anomalies of the probe frames are off: build the bundle again'
        )


def _sparse(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[..., ::_SCORE_STRIDE, ::_SCORE_STRIDE]


def _calibrated(calibration: Calibration, score: NDArray[np.float32]) -> NDArray[np.int_]:
    """Return the anomaly 0..255 of raw scores, as the deploy graph computes it."""
    scores, anomalies = zip(*calibration.knots, strict=True)
    # The sum is as there: float sums may end a hair below the integer that they stand for.
    return np.asarray(np.interp(score, scores, anomalies) + 1e-3, int)

# SPDX-License-Identifier: Apache-2.0
"""What every engine takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from multishift_perception.images.picture import Picture

# What may be asked of a frame's outputs, as `FrameOutput` names it.
Part = Literal[
    'labels', 'anomaly', 'score', 'engine_labels', 'engine_anomaly', 'look', 'confidence'
]
ALL_PARTS: frozenset[Part] = frozenset(get_args(Part))
Parts = Mapping[Part, NDArray[Any]]


class EngineOutput(NamedTuple):
    """The outputs of the deploy graph for a batch of N frames of H x W pixels.

    Attributes:
        label: ``uint8 [N,H,W]``, index of the most likely known class.
        score: ``float32 [N,H,W]``, raw uncertainty, larger is more anomalous, no fixed range.
        anomaly: ``uint8 [N,H,W]``, calibrated uncertainty; 128 is the operating point.
        look: ``float32 [N,K]``, statistics of an early feature, see `Look`; None of graphs that
            were built without.
        confidence: ``uint8 [N,H,W]``, probability of the label, 255 is certain; likewise.
    """

    label: NDArray[np.uint8]
    score: NDArray[np.float32]
    anomaly: NDArray[np.uint8]
    look: NDArray[np.float32] | None = None
    confidence: NDArray[np.uint8] | None = None


# What every graph gives; older ones lack the last of the others.
LEAST_OUTPUTS = len(EngineOutput._fields) - len(EngineOutput._field_defaults)


class Backend(Protocol):
    """A loaded artifact of a bundle."""

    def run(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run the deploy graph on RGB frames ``uint8 [N,H,W,3]`` of exactly the bundle's shape.

        N is any of those that the manifest lists for the artifact; the first call with each may
        take its time.
        """

    def close(self) -> None:
        """Free the memory the artifact holds on its device."""


class PictureCall(NamedTuple):
    """A picture for a call, and what is to come back of it.

    Attributes:
        picture: of any size.
        size: height and width of ``labels``, ``anomaly`` and ``confidence``.
        wanted: what is to come back.
    """

    picture: Picture
    size: tuple[int, ...]
    wanted: frozenset[Part]


class PictureBackend(Backend, Protocol):
    """A backend that may shrink pictures and enlarge outputs itself, where it runs."""

    @property
    def takes_pictures(self) -> bool:
        """Whether it does; if not, the methods below are not called."""

    def run_pictures(
        self,
        calls: Sequence[PictureCall],
        shape: tuple[int, int, int],
        stages: dict[str, float] | None = None,
    ) -> list[Parts]:
        """Run the deploy graph on pictures, each shrunk as `fit` does.

        Args:
            calls: at most N pictures.
            shape: of the call: N as for ``run``, height, width.
            stages: gets the seconds of each stage of the call, which it slows a little.

        Returns:
            Of each picture what is wanted, the caller's own arrays: ``labels uint8 [h,w]`` and
            ``anomaly uint8 [h,w]`` as ``resize_labels`` and ``resize_scores`` make them of the
            engine's, or ``anomaly`` at the engine's size; ``engine_labels uint8 [H,W]``,
            ``engine_anomaly uint8 [H,W]``, ``score float32 [H,W]`` and, of graphs that have them,
            ``look float32 [K]`` as the engine gives them, ``confidence uint8 [h,w]`` enlarged as
            anomaly is.
        """

    def recalibrate(self, steps: NDArray[np.float32]) -> None:
        """Make the anomaly of the raw score from now on, where the network runs.

        Args:
            steps: ascending, ``[255]``: so many as a score reaches are its anomaly.
        """


def takes_pictures(backend: Backend) -> TypeGuard[PictureBackend]:
    """Return whether a backend shrinks pictures itself."""
    return bool(getattr(backend, 'takes_pictures', False))

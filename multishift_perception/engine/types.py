# SPDX-License-Identifier: Apache-2.0
"""What every engine takes and gives."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class EngineOutput(NamedTuple):
    """The outputs of the deploy graph for a batch of N frames of H x W pixels.

    Attributes:
        label: ``uint8 [N,H,W]``, index of the most likely known class.
        score: ``float32 [N,H,W]``, raw uncertainty, larger is more anomalous, no fixed range.
        anomaly: ``uint8 [N,H,W]``, calibrated uncertainty; 128 is the operating point.
        look: ``float32 [N,K]``, statistics of an early feature, see `Look`; None of graphs that
            were built without.
    """

    label: NDArray[np.uint8]
    score: NDArray[np.float32]
    anomaly: NDArray[np.uint8]
    look: NDArray[np.float32] | None = None


class Backend(Protocol):
    """A loaded artifact of a bundle."""

    def run(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run the deploy graph on RGB frames ``uint8 [N,H,W,3]`` of exactly the bundle's shape.

        N is any of those that the manifest lists for the artifact; the first call with each may
        take its time.
        """

    def close(self) -> None:
        """Free the memory the artifact holds on its device."""

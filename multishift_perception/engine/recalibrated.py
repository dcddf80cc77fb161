# SPDX-License-Identifier: Apache-2.0
"""An artifact whose calibration was set after it was built."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multishift_perception.engine.manifest import Calibration
from multishift_perception.engine.types import Backend, EngineOutput


class Recalibrated:
    """A backend whose anomaly is computed of the raw score, on the CPU.

    The anomaly that the artifact gives has too few steps where its knots lie far apart: it is not
    used. The raw score has them all.
    """

    def __init__(self, running: Backend, calibration: Calibration) -> None:
        """Take a loaded artifact, which is closed with this, and the calibration to apply."""
        self._running = running
        self._calibration = calibration

    def run(self, frames: NDArray[np.uint8]) -> EngineOutput:
        """Run RGB frames ``uint8 [N,H,W,3]`` of exactly the bundle's shape."""
        output = self._running.run(frames)
        return output._replace(anomaly=self._calibration.anomaly(output.score))

    def close(self) -> None:
        """Free the memory the artifact holds on its device."""
        self._running.close()

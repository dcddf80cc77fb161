# SPDX-License-Identifier: Apache-2.0
"""An artifact whose calibration was set after it was built."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multishift_perception.engine.manifest import Calibration
from multishift_perception.engine.types import (
    Backend,
    EngineOutput,
    Parts,
    PictureCall,
    takes_pictures,
)


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

    @property
    def takes_pictures(self) -> bool:
        """Whether the artifact does."""
        return takes_pictures(self._running)

    def run_pictures(
        self,
        calls: Sequence[PictureCall],
        shape: tuple[int, int, int],
        stages: dict[str, float] | None = None,
    ) -> list[Parts]:
        """Run pictures as the artifact does; the anomaly has the engine's size."""
        assert takes_pictures(self._running)
        asked = [
            call._replace(wanted=call.wanted - {'anomaly'} | {'score'})
            if 'anomaly' in call.wanted
            else call
            for call in calls
        ]
        found = self._running.run_pictures(asked, shape, stages)
        return [
            {**parts, 'anomaly': self._calibration.anomaly(parts['score'])}
            if 'anomaly' in call.wanted
            else parts
            for parts, call in zip(found, calls, strict=True)
        ]

    def close(self) -> None:
        """Free the memory the artifact holds on its device."""
        self._running.close()

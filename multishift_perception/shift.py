# SPDX-License-Identifier: Apache-2.0
"""The two shifts of a frame, told apart.

Covariate shift: the frame looks as no training image did, by light, weather or camera, whatever
is seen in it. Semantic shift: there are things of no known class, whatever the light.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from multishift_perception.classes import SemanticClass
from multishift_perception.ground import anomalous_share, ground_table
from multishift_perception.pipeline import FrameOutput, engine_mask


class Shift(NamedTuple):
    """How far a frame is from what the network was trained on.

    Attributes:
        covariate: distance of its look from that of the images that the bundle states, 1 is what
            99 % of those stay below; None of engines that do not tell.
        semantic: anomalous share of the ground, 0..1; None where no class is ground.
    """

    covariate: float | None
    semantic: float | None


UNKNOWN = Shift(None, None)


class ShiftStatus(NamedTuple):
    """What a diagnostic status says of a shift.

    Attributes:
        is_known: whether the frame looks as training images do; a warning where it does not.
        message: what is wrong; empty where nothing is.
        values: the numbers that there are, by their keys.
    """

    is_known: bool
    message: str
    values: dict[str, str]


def status_of(shift: Shift) -> ShiftStatus:
    """Return what is said of a shift."""
    named = zip(shift._fields, shift, strict=True)
    is_known = shift.covariate is None or shift.covariate <= 1
    return ShiftStatus(
        is_known,
        '' if is_known else 'it looks as no training image did',
        {f'{name} shift': f'{value:.4f}' for name, value in named if value is not None},
    )


class ShiftMeter:
    """Measures frames of an engine's classes."""

    def __init__(self, classes: Sequence[SemanticClass]) -> None:
        """Take the classes, in order of their labels."""
        self._ground = ground_table(classes)

    def measure(self, output: FrameOutput, threshold: float, min_area: int = 0) -> Shift:
        """Return the shifts of a frame, at the engine's size.

        Args:
            output: what the engine said of it.
            threshold: calibrated score from which a pixel is anomalous, 0..1.
            min_area: pixels of the frame that an anomalous region has at least.
        """
        mask = engine_mask(output, threshold, min_area)
        semantic = anomalous_share(mask, output.engine_labels, self._ground)
        return Shift(output.covariate_shift, semantic)

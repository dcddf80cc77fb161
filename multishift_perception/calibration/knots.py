# SPDX-License-Identifier: Apache-2.0
"""Moves the operating point of a calibration, and the rest of the curve with it."""

from __future__ import annotations

from multishift_perception.engine import Calibration

# A side of the curve is squeezed to a quarter of its width at most; then its end moves, too.
_SQUEEZE = 0.25
_MIDDLE = 128.0


def move_operating_point(
    calibration: Calibration, point: float, *, rule: str, dataset: str
) -> Calibration:
    """Return a calibration with the operating point at another raw score.

    Each side is stretched or squeezed as a whole between the point and its outermost knot, which
    stays: what was told apart is, in the same order, in as many steps as before. A score that was
    a tenth of the way from the point to the upper end still is. Where the point comes near an end
    or lies beyond it, that end gives way.

    Args:
        calibration: whose curve to take.
        point: the score that is to map to 128.
        rule: how it was chosen, in words.
        dataset: what it was chosen on, in words.
    """
    old = calibration.operating_point
    below = [knot for knot in calibration.knots if knot[0] < old]
    above = [knot for knot in calibration.knots if knot[0] > old]

    def moved(knots: list[tuple[float, float]], end: float) -> list[tuple[float, float]]:
        factor = max((end - point) / (end - old), _SQUEEZE)
        return [(point + (score - old) * factor, anomaly) for score, anomaly in knots]

    return Calibration(
        knots=[
            *(moved(below, below[0][0]) if below else ()),
            (point, _MIDDLE),
            *(moved(above, above[-1][0]) if above else ()),
        ],
        operating_point=point,
        rule=rule,
        dataset=dataset,
    )

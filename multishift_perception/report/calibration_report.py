# SPDX-License-Identifier: Apache-2.0
"""The report of a calibration on footage: the score before and after, and every frame's share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup
import numpy as np
from numpy.typing import NDArray

from multishift_perception.destinations import CALIBRATE
from multishift_perception.report.charts import frame_share_chart, score_chart
from multishift_perception.report.page import environment, write_report_files

_LISTED = 20


@dataclass(frozen=True)
class Curve:
    """What one calibration makes of the footage.

    Attributes:
        operating_point: the raw score that is published as 0.5.
        levels: share of all pixels at each level of the anomaly, ``float64 [256]``.
        ordinary: share of ordinary pixels that are published as 0.5 or more, as it is estimated
            without labels.
    """

    operating_point: float
    levels: NDArray[np.float64]
    ordinary: float

    @property
    def pooled(self) -> float:
        """Share of all pixels that are published as 0.5 or more, true anomalies among them."""
        return float(self.levels[128:].sum())


@dataclass(frozen=True)
class CalibrationReport:
    """What was found on the footage.

    Attributes:
        footage: its name.
        frames: how many frames it has, unreadable ones too.
        false_alarms: the share that was asked for.
        before: of the engine as it was.
        after: of the new calibration.
        names: of the frames that were read, in their order.
        shares: of each, that is published as 0.5 or more after, ``float64 [F]``.
        limit: share as which a frame counts at most.
        unreadable: a line for each frame that was left out.
        provenance: what is needed to repeat it: names, hashes, versions.
    """

    footage: str
    frames: int
    false_alarms: float
    before: Curve
    after: Curve
    names: tuple[str, ...]
    shares: NDArray[np.float64]
    limit: float
    unreadable: tuple[str, ...]
    provenance: Mapping[str, str]

    @property
    def limited(self) -> list[tuple[str, float]]:
        """Frames above the limit with their shares, the largest first."""
        pairs = zip(self.names, self.shares.tolist(), strict=True)
        return sorted((p for p in pairs if p[1] > self.limit), key=lambda pair: -pair[1])


def figures(report: CalibrationReport) -> dict[str, Any]:
    """Return the report's numbers for machines, JSON-ready; shares are 0..1."""
    return {
        'command': CALIBRATE,
        'footage': report.footage,
        'frames': report.frames,
        'false_alarms': report.false_alarms,
        'before': _figures(report.before),
        'after': _figures(report.after),
        'limit': report.limit,
        'shares': dict(zip(report.names, report.shares.tolist(), strict=True)),
        'limited': [name for name, _ in report.limited],
        'unreadable': list(report.unreadable),
        'provenance': dict(report.provenance),
    }


def _figures(curve: Curve) -> dict[str, Any]:
    return {
        'operating_point': curve.operating_point,
        'ordinary': curve.ordinary,
        'pooled': curve.pooled,
        'levels': curve.levels.tolist(),
    }


def write_report(report: CalibrationReport, folder: Path) -> Path:
    """Write ``report.html`` and ``metrics.json``; other files in the folder stay.

    Returns:
        Path of the HTML file.
    """
    numbers = json.dumps(figures(report), indent=2) + '\n'
    return write_report_files(folder, numbers=numbers, page=render(report))


def render(report: CalibrationReport) -> str:
    """Return the report as one self-contained HTML page."""
    return (
        environment()
        .get_template('calibration_report.html.j2')
        .render(
            report=report,
            limited=report.limited[:_LISTED],
            provenance=report.provenance,
            score_chart=Markup(score_chart(report.before.levels, report.after.levels)),
            share_chart=Markup(
                frame_share_chart(report.shares, report.false_alarms, report.limit)
            ),
        )
    )

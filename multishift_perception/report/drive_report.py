# SPDX-License-Identifier: Apache-2.0
"""The report of a replay or a demo: one HTML file that holds everything, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup
import numpy as np

from multishift_perception.classes import NOVEL_COLOR, SemanticClass
from multishift_perception.report.charts import (
    condition_chart,
    latency_chart,
    share_chart,
    timeline_chart,
)
from multishift_perception.report.drive_evaluation import Scores
from multishift_perception.report.frame_table import FrameTable
from multishift_perception.report.gallery import Pictures
from multishift_perception.report.page import environment, write_report_files
from multishift_perception.report.pictures import score_scale
from multishift_perception.report.score_tables import drive_table, score_table
from multishift_perception.report.text import align_columns

FRAMES = 'frames.csv'


@dataclass(frozen=True)
class Latency:
    """Durations of one stage.

    Attributes:
        stage: what was timed, in words.
        ms: one value per frame or call, milliseconds.
    """

    stage: str
    ms: tuple[float, ...]

    def summary(self) -> dict[str, float | int]:
        """Return count, mean, p50, p99 and max; only the count without values."""
        if not self.ms:
            return {'count': 0}
        p50, p99 = np.percentile(self.ms, [50, 99])
        return {
            'count': len(self.ms),
            'mean': float(np.mean(self.ms)),
            'p50': float(p50),
            'p99': float(p99),
            'max': max(self.ms),
        }


@dataclass(frozen=True)
class FrameCount:
    """Where the frames of a camera went.

    Attributes:
        camera: name or topic.
        sent: frames in the bag, or published.
        received: frames with outputs.
        dropped: frames without, by cause.
    """

    camera: str
    sent: int
    received: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """All that a report shows.

    Attributes:
        command: that made it, by which a later one knows it for its own.
        title: heading.
        subtitle: one line below it: what ran over what.
        classes: known classes, in order of their label values.
        threshold: operating threshold of the anomaly mask, 0..1 on the calibrated scale.
        overall: metrics over all frames.
        conditions: metrics per condition; empty where unknown.
        cameras: metrics per camera.
        latencies: stages in order; the last one is the whole, and is the one at the top.
        counts: frame counts per camera.
        frames: what became of each frame.
        pictures: those of the slider, and the scenes that matter.
        provenance: what is needed to repeat the run: names, hashes, versions.
        warnings: what was not read or not judged, a line each.
        min_area: pixels that an anomalous region has at least.
    """

    command: str
    title: str
    subtitle: str
    classes: tuple[SemanticClass, ...]
    threshold: float
    overall: Scores
    conditions: tuple[Scores, ...]
    cameras: tuple[Scores, ...]
    latencies: tuple[Latency, ...]
    counts: tuple[FrameCount, ...]
    frames: FrameTable
    pictures: Pictures
    provenance: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    min_area: int = 0


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.html``, ``metrics.json`` and ``frames.csv``; other files in the folder stay.

    Returns:
        Path of the HTML file.
    """
    numbers = json.dumps(metrics(report), indent=2) + '\n'
    page = write_report_files(folder, numbers=numbers, page=render(report))
    report.frames.write_csv(folder / FRAMES)
    return page


def metrics(report: Report) -> dict[str, Any]:
    """Return the report's numbers for machines, JSON-ready; fractions 0..1, undefined is None."""
    return {
        'command': report.command,
        'title': report.title,
        'threshold': report.threshold,
        'min_area': report.min_area,
        'classes': [c.name for c in report.classes],
        'overall': asdict(report.overall),
        'conditions': {scores.name: asdict(scores) for scores in report.conditions},
        'cameras': {scores.name: asdict(scores) for scores in report.cameras},
        'latency_ms': {latency.stage: latency.summary() for latency in report.latencies},
        'frames': {count.camera: asdict(count) for count in report.counts},
        'warnings': list(report.warnings),
        'provenance': dict(report.provenance),
    }


def summary(report: Report) -> str:
    """Return the report's numbers as a table for a terminal."""
    rows = (*report.conditions, *report.cameras, report.overall)
    tables = [score_table(rows), drive_table(rows)] if report.overall.frames_with_truth else []
    times: list[tuple[str, ...]] = [('', 'count', 'p50 ms', 'p99 ms')]
    for latency in report.latencies:
        spread = latency.summary()
        ends = [f'{spread[key]:.1f}' if latency.ms else '–' for key in ('p50', 'p99')]
        times.append((latency.stage, str(spread['count']), *ends))
    return '\n\n'.join('\n'.join(table) for table in [*tables, align_columns(times)])


def render(report: Report) -> str:
    """Return the report as one self-contained HTML page."""
    causes = sorted({cause for count in report.counts for cause in count.dropped})
    rated = tuple(s for s in report.conditions if s.frames_with_truth)
    shares = report.frames.column('anomalous')
    shares = shares[~np.isnan(shares)]
    return (
        environment()
        .get_template('drive_report.html.j2')
        .render(
            report=report,
            provenance=report.provenance,
            causes=causes,
            novel_color=NOVEL_COLOR,
            frames_file=FRAMES,
            score_scale=score_scale(),
            film_cameras=tuple(dict.fromkeys(p.record.camera for p in report.pictures.film)),
            timeline=timeline_chart(report.frames) if len(report.frames) else None,
            share_chart=Markup(share_chart(shares)) if len(shares) else None,
            condition_chart=Markup(condition_chart(rated)) if rated else None,
            latency_chart=Markup(
                latency_chart([(x.stage, x.ms) for x in report.latencies if x.ms])
            ),
        )
    )

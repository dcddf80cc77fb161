# SPDX-License-Identifier: Apache-2.0
"""The report over many bags: a page of tables, and ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from multishift_perception.classes import NOVEL_COLOR, SemanticClass
from multishift_perception.report.drive_evaluation import Scores
from multishift_perception.report.drive_report import Latency
from multishift_perception.report.page import HTML, environment, write_report_files
from multishift_perception.report.score_tables import drive_table, score_table


@dataclass(frozen=True)
class BagRow:
    """A bag among others.

    Attributes:
        scores: over all its frames, by its name.
        folder: of its own report, below that of all.
        minutes: length of the bag.
        latency: from decoding to mask.
        sent: frames in the bag.
        received: frames with outputs.
        warnings: what was not read or not judged, a line each.
        recording: what tells it from other recordings, wherever it lies and whatever its name.
    """

    scores: Scores
    folder: str
    minutes: float
    latency: Latency
    sent: int
    received: int
    warnings: tuple[str, ...]
    recording: str

    @property
    def link(self) -> str:
        """Where its own report is, for a page beside its folder."""
        return f'{quote(self.folder)}/{HTML}'


@dataclass(frozen=True)
class FleetReport:
    """All that a report over many bags shows.

    Attributes:
        command: that made it, by which a later one knows it for its own.
        classes: known classes, in order of their label values.
        threshold: operating threshold of the anomaly mask, 0..1 on the calibrated scale.
        min_area: pixels that an anomalous region has at least.
        settings: all that decides what comes of a bag.
        overall: metrics over all bags.
        conditions: metrics per condition; empty where unknown.
        cameras: metrics per camera.
        latency: of all frames.
        bags: a row for each that came of something.
        failed: why nothing came of the others, by name.
        provenance: what is needed to repeat the run: names, hashes, versions.
    """

    command: str
    classes: tuple[SemanticClass, ...]
    threshold: float
    min_area: int
    settings: Mapping[str, Any]
    overall: Scores
    conditions: tuple[Scores, ...]
    cameras: tuple[Scores, ...]
    latency: Latency
    bags: tuple[BagRow, ...]
    failed: Mapping[str, str]
    provenance: Mapping[str, str]

    @property
    def minutes(self) -> float:
        """Length of all bags."""
        return sum(row.minutes for row in self.bags)


def write_fleet_report(report: FleetReport, folder: Path) -> Path:
    """Write ``report.html`` and ``metrics.json``; other files in the folder stay.

    Returns:
        Path of the HTML file.
    """
    numbers = json.dumps(fleet_metrics(report), indent=2) + '\n'
    page = (
        environment()
        .get_template('fleet_report.html.j2')
        .render(report=report, provenance=report.provenance, novel_color=NOVEL_COLOR)
    )
    return write_report_files(folder, numbers=numbers, page=page)


def fleet_metrics(report: FleetReport) -> dict[str, Any]:
    """Return the report's numbers for machines, JSON-ready; fractions 0..1, undefined is None."""
    return {
        'command': report.command,
        'finished': True,
        'settings': dict(report.settings),
        'threshold': report.threshold,
        'min_area': report.min_area,
        'classes': [c.name for c in report.classes],
        'overall': asdict(report.overall),
        'conditions': {scores.name: asdict(scores) for scores in report.conditions},
        'cameras': {scores.name: asdict(scores) for scores in report.cameras},
        'latency_ms': {report.latency.stage: report.latency.summary()},
        'bags': {
            row.scores.name: {
                **asdict(row.scores),
                'minutes': row.minutes,
                'sent': row.sent,
                'received': row.received,
                'latency_ms': row.latency.summary(),
                'warnings': list(row.warnings),
                'recording': row.recording,
            }
            for row in report.bags
        },
        'failed': dict(report.failed),
        'provenance': dict(report.provenance),
    }


def fleet_summary(report: FleetReport) -> str:
    """Return the report's numbers as tables for a terminal."""
    rows = (*report.conditions, *report.cameras, report.overall)
    bags = tuple(row.scores for row in report.bags)
    tables = [score_table(bags)]
    if report.overall.frames_with_truth:
        tables += [score_table(rows), drive_table(rows)]
    return '\n\n'.join('\n'.join(table) for table in tables)

# SPDX-License-Identifier: Apache-2.0
"""What an evaluation leaves: ``metrics.json`` for machines and ``report.html`` for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
import yaml

from multishift_perception.classes import NOVEL_COLOR, SemanticClass
from multishift_perception.destinations import EVALUATE
from multishift_perception.metrics import Curve, Sizes
from multishift_perception.report.page import environment, write_report_files
from multishift_training.datasets.groups import with_groups
from multishift_training.evaluation.charts import classes_chart, conditions_chart, curves_chart
from multishift_training.evaluation.drawings import Drawing
from multishift_training.evaluation.evaluate import DatasetResult
from multishift_training.evaluation.table import table, totals
from multishift_training.evaluation.tally import ALL, Row


@dataclass(frozen=True)
class EvaluationReport:
    """All that is reported.

    Attributes:
        subject: what was evaluated, in a few words.
        classes: known classes, in order of their label values.
        scores: names of the scores.
        results: by data set.
        descriptions: of the data sets by name, JSON-ready.
        components: which components counted, if any did.
        provenance: what is needed to repeat the run.
    """

    subject: str
    classes: tuple[SemanticClass, ...]
    scores: tuple[str, ...]
    results: tuple[DatasetResult, ...]
    descriptions: Mapping[str, Any]
    components: Sizes | None
    provenance: Mapping[str, str]


def write_report(report: EvaluationReport, folder: Path) -> Path:
    """Write both files, each of them whole or not at all; other files in the folder stay.

    Returns:
        Path of the page.
    """
    return write_report_files(folder, numbers=to_json(report), page=render(report))


def to_json(report: EvaluationReport) -> str:
    """Return all numbers as JSON; fractions are 0..1, what is undefined is null."""
    content = {
        'command': EVALUATE,
        'subject': report.subject,
        'classes': [c.name for c in report.classes],
        'scores': report.scores,
        'components': None if report.components is None else asdict(report.components),
        'datasets': {result.name: _dataset(report, result) for result in report.results},
        'provenance': dict(report.provenance),
    }
    return json.dumps(content, indent=2, allow_nan=False) + '\n'


def _dataset(report: EvaluationReport, result: DatasetResult) -> dict[str, Any]:
    return {
        'description': report.descriptions[result.name],
        'images': result.images,
        'damaged_images': dict(result.damaged),
        'has_classes': result.has_classes,
        **_groups(result),
        'results': {
            score: {row.condition: _figures(row) for row in result.rows if row.score == score}
            for score in report.scores
        },
        'threshold_at_95_percent_recall': dict(result.thresholds),
        'best_images': _listed(result.measure, result.best),
        'worst_images': _listed(result.measure, result.worst),
    }


def _groups(result: DatasetResult) -> dict[str, Any]:
    """Return what figures by class are of, where that is not `classes`."""
    if not result.groups:
        return {}
    return {
        'groups': {group.name: group.classes for group in result.groups},
        'iou_of': [unit.name for unit in result.units],
    }


def _figures(row: Row) -> dict[str, Any]:
    figures = asdict(row)
    return {key: figures[key] for key in figures if key not in ('score', 'condition')}


def _listed(measure: str, drawings: Sequence[Drawing]) -> list[dict[str, Any]]:
    return [{'name': d.name, 'condition': d.condition, measure: d.value} for d in drawings]


def render(report: EvaluationReport) -> str:
    """Return the report as one self-contained HTML page."""
    template = environment(jinja2.PackageLoader(__package__)).get_template('evaluation.html.j2')
    return template.render(
        report=report,
        sections=[_section(report, result) for result in report.results],
        provenance=report.provenance,
        novel_color=NOVEL_COLOR,
    )


def _section(report: EvaluationReport, result: DatasetResult) -> dict[str, Any]:
    headings, *rows = table(result)
    labels = with_groups(report.classes, result.groups)
    segmentation = result.rows[-1].segmentation
    return {
        'result': result,
        'description': _in_words(report.descriptions[result.name]),
        'headings': headings,
        'rows': list(zip(rows, totals(result), strict=True)),
        'curves': [(title, Markup(curves_chart(found))) for title, found in _curves(result)],
        'spreads': [
            (
                score,
                Markup(conditions_chart(spread, result.thresholds.get(score))),
                Markup(classes_chart(spread, labels, result.thresholds.get(score)))
                if result.has_classes
                else None,
            )
            for score, spread in result.spreads.items()
        ],
        'iou': None if segmentation is None else segmentation.iou,
        'error': max(row.anomaly.error for row in result.rows),
        'novel': result.rows[-1].anomaly.novel_pixels > 0,
    }


def _in_words(description: Mapping[str, Any]) -> str:
    """Return a description on one line, as its YAML would have it."""
    flow: str = yaml.safe_dump(description, default_flow_style=True, sort_keys=False, width=10**6)
    return flow.strip()[1:-1]


def _curves(result: DatasetResult) -> list[tuple[str, Mapping[str, Curve]]]:
    """Return the charts' titles and curves: the scores side by side, and each by condition."""
    by_score = {score: found[ALL] for score, found in result.curves.items() if ALL in found}
    charts: list[tuple[str, Mapping[str, Curve]]] = []
    if len(by_score) > 1:
        charts.append(('all images, by score', by_score))
    for score, found in result.curves.items():
        # The one condition of a data set is all of it.
        of_condition = found if len(found) > 2 else {k: c for k, c in found.items() if k == ALL}
        if of_condition and (len(by_score) == 1 or len(of_condition) > 1):
            title = f'{score}, by condition' if len(of_condition) > 1 else score
            charts.append((title, of_condition))
    return charts

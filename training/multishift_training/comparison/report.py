# SPDX-License-Identifier: Apache-2.0
"""What an experiment leaves: ``table.md``, ``metrics.json`` and ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from multishift_perception import files
from multishift_perception.report.page import environment, write_report_files
from multishift_perception.report.provenance import software
from multishift_training.comparison.charts import differences_chart, figures_chart
from multishift_training.comparison.config import Experiment
from multishift_training.comparison.folder import COMPARE, ComparisonFolder, Seen
from multishift_training.comparison.results import Results, Row
from multishift_training.comparison.table import explanation, headings, markdown, missing, texts

TABLE = 'table.md'


def write_report(results: Results, experiment: Experiment, folder: ComparisonFolder) -> Path:
    """Write the three files, each of them whole or not at all.

    Returns:
        Path of the page.
    """
    files.write_text(folder.path / TABLE, markdown(results) + '\n')
    numbers = to_json(results, experiment)
    page = render(results, folder.pictures)
    return write_report_files(folder.path, numbers=numbers, page=page)


def to_json(results: Results, experiment: Experiment) -> str:
    """Return all numbers as JSON; fractions are 0..1, what is undefined is null."""
    content = {
        'command': COMPARE,
        'baseline': dict(zip(('way', 'score'), results.baseline, strict=True)),
        'seeds': results.seeds,
        'missing': results.missing,
        'results': {part: list(map(_row, rows)) for part, rows in results.parts.items()},
        'experiment': experiment.model_dump(mode='json', exclude={'base'}),
        'provenance': software(),
    }
    return json.dumps(content, indent=1, allow_nan=False) + '\n'


def _row(row: Row) -> dict[str, Any]:
    metrics = {metric: asdict(cell) for metric, cell in row.cells.items()}
    engines = {precision: asdict(time) for precision, time in row.engines.items()}
    return {'way': row.way, 'score': row.score, 'metrics': metrics, 'engines': engines}


def render(results: Results, pictures: Mapping[str, Sequence[Seen]]) -> str:
    """Return the report as one self-contained HTML page.

    Args:
        results: what was found.
        pictures: images as the ways see them, by test; may be empty.
    """
    template = environment(jinja2.PackageLoader(__package__)).get_template('comparison.html.j2')
    return template.render(
        results=results,
        headings=headings(results),
        sections=[
            _section(part, rows, results.precisions) for part, rows in results.parts.items()
        ],
        pictures=pictures,
        explanation=explanation(results),
        missing=missing(results),
        provenance=software(),
    )


def _section(part: str, rows: Sequence[Row], precisions: Sequence[str]) -> dict[str, Any]:
    differ = any(cell.difference for row in rows for cell in row.cells.values())
    return {
        'name': part,
        'rows': [texts(row, precisions) for row in rows],
        'figures': Markup(figures_chart(rows)),
        'differences': Markup(differences_chart(rows)) if differ else None,
    }

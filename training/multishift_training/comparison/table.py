# SPDX-License-Identifier: Apache-2.0
"""The figures of an experiment as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from multishift_training.comparison.results import METRICS, Results, Row
from multishift_training.comparison.statistics import Difference, Spread

HEADINGS = ('way', 'score', 'seeds', *METRICS, *(f'{metric}, difference' for metric in METRICS))
_DASH = '–'


def markdown(results: Results) -> str:
    """Return one table over all parts of the tests, what it shows, and which jobs are missing."""
    lines = [_line(('test', *HEADINGS)), _line(['---'] * (len(HEADINGS) + 1))]
    for part, rows in results.parts.items():
        lines += [_line((part, *texts(row))) for row in rows]
    return '\n'.join([*lines, '', explanation(results), *missing(results)])


def texts(row: Row) -> list[str]:
    """Return the cells of a row, without the part of the tests."""
    cells = [row.cells[metric] for metric in METRICS]
    return [
        row.way,
        row.score,
        str(row.seeds),
        *(_spread(cell.spread) for cell in cells),
        *(_difference(cell.difference) for cell in cells),
    ]


def explanation(results: Results) -> str:
    """Return what the figures are."""
    way, score = results.baseline
    return (
        'Figures in %: mean over seeds (least to largest). Differences: to '
        f'{way} ({score}), paired by seed, [interval of 95 % by t].'
    )


def missing(results: Results) -> list[str]:
    """Return a line that says which jobs are missing; nothing where none is."""
    return [f'Missing: {"; ".join(results.missing)}.'] if results.missing else []


def _line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _spread(found: Spread | None) -> str:
    if found is None:
        return _DASH
    return f'{100 * found.mean:.1f} ({100 * found.least:.1f} to {100 * found.largest:.1f})'


def _difference(found: Difference | None) -> str:
    if found is None:
        return _DASH
    if found.low is None or found.high is None:
        return f'{100 * found.mean:+.1f}'
    return f'{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]'

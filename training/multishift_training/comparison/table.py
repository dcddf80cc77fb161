# SPDX-License-Identifier: Apache-2.0
"""The figures of an experiment as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from multishift_training.comparison.folder import MEASURED, EngineTime
from multishift_training.comparison.results import Results, Row
from multishift_training.comparison.statistics import Difference, Spread

_DASH = '–'


def markdown(results: Results) -> str:
    """Return one table over all parts of the tests, what it shows, and which jobs are missing."""
    head = ('test', *headings(results))
    lines = [_line(head), _line(['---'] * len(head))]
    for part, rows in results.parts.items():
        lines += [_line((part, *texts(row, results.precisions))) for row in rows]
    return '\n'.join([*lines, '', explanation(results), *missing(results)])


def headings(results: Results) -> list[str]:
    """Return what stands above the cells of `texts`."""
    engines = [
        f'{precision} engine, {what}'
        for precision in results.precisions
        for what in ('ms', 'CPU ms')
    ]
    differences = [f'{metric}, difference' for metric in MEASURED]
    return ['way', 'score', 'seeds', *MEASURED, *engines, *differences]


def texts(row: Row, precisions: Sequence[str]) -> list[str]:
    """Return the cells of a row, without the part of the tests.

    Args:
        row: the row.
        precisions: of the engines whose times are shown.
    """
    cells = [row.cells[metric] for metric in MEASURED]
    return [
        row.way,
        row.score,
        str(row.seeds),
        *(_spread(cell.spread) for cell in cells),
        *(text for precision in precisions for text in _engine(row.engines.get(precision))),
        *(_difference(cell.difference) for cell in cells),
    ]


def explanation(results: Results) -> str:
    """Return what the figures are."""
    way, score = results.baseline
    said = (
        'Figures in %: mean over seeds (least to largest). Differences: to '
        f'{way} ({score}), paired by seed, [interval of 95 % by t].'
    )
    if not results.precisions:
        return said
    return (
        f'{said} Engines: of OpenVINO, called in turn with one frame; ms is the median of the '
        'rounds (least to largest), CPU ms what all threads compute.'
    )


def missing(results: Results) -> list[str]:
    """Return a line that says which jobs are missing; nothing where none is."""
    return [f'Missing: {"; ".join(results.missing)}.'] if results.missing else []


def _line(cells: Sequence[str]) -> str:
    # Names may be anything, and a bar or a line's end would begin another cell or row.
    plain = (' '.join(cell.split()).replace('|', r'\|') for cell in cells)
    return f'| {" | ".join(plain)} |'


def _spread(found: Spread | None) -> str:
    if found is None:
        return _DASH
    return f'{100 * found.mean:.1f} ({100 * found.least:.1f} to {100 * found.largest:.1f})'


def _engine(found: EngineTime | None) -> tuple[str, str]:
    if found is None:
        return _DASH, _DASH
    milliseconds = f'{found.milliseconds:.1f} ({found.least:.1f} to {found.largest:.1f})'
    return milliseconds, f'{found.cpu_milliseconds:.1f}'


def _difference(found: Difference | None) -> str:
    if found is None:
        return _DASH
    if found.low is None or found.high is None:
        return f'{100 * found.mean:+.1f}'
    return f'{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]'

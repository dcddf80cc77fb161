# SPDX-License-Identifier: Apache-2.0
"""The charts of an experiment, as SVG text for its page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.style
import numpy as np

from multishift_perception.report.charts import COLORS, STYLE, svg
from multishift_training.comparison.folder import MEASURED
from multishift_training.comparison.results import Cell, Row

_STYLE = {**STYLE, 'axes.grid.axis': 'x'}
_INK, _SOFT = '#1f2933', '#9aa5b1'
_WIDTH = 9.6

# Draws a cell at a height, in a colour.
_Draw = Callable[[Axes, int, Cell, str], None]


def figures_chart(rows: Sequence[Row]) -> str:
    """Return every seed's figure and their mean: a panel for each metric, a line for each row."""
    return _panels(rows, '%', _draw_figures)


def differences_chart(rows: Sequence[Row]) -> str:
    """Return the mean difference to the baseline with its interval, likewise."""
    return _panels(rows, 'points', _draw_difference)


def _panels(rows: Sequence[Row], unit: str, draw: _Draw) -> str:
    metrics = [m for m in MEASURED if any(row.cells[m].by_seed for row in rows)]
    with matplotlib.style.context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.27 * len(rows)), layout='constrained')
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, metric, color in zip(panels, metrics, COLORS, strict=False):
            for place, row in enumerate(reversed(rows)):
                draw(axes, place, row.cells[metric], color)
            axes.set(title=metric, xlabel=unit)
            axes.title.set_fontsize(10)
        names = [row.name for row in reversed(rows)]
        panels[0].set_yticks(np.arange(len(rows)), names, parse_math=False)
        return svg(figure)


def _draw_figures(axes: Axes, place: int, cell: Cell, color: str) -> None:
    values = [100 * value for value in cell.by_seed.values()]
    axes.scatter(values, [place] * len(values), 14, color=color, alpha=0.5, linewidths=0)
    if cell.spread is not None:
        axes.scatter([100 * cell.spread.mean], [place], 90, color=_INK, marker='|')


def _draw_difference(axes: Axes, place: int, cell: Cell, color: str) -> None:
    axes.axvline(0, color=_SOFT, linewidth=0.8)
    found = cell.difference
    if found is None:
        return
    if found.low is not None and found.high is not None:
        axes.plot([100 * found.low, 100 * found.high], [place, place], color=color, linewidth=2)
    axes.scatter([100 * found.mean], [place], 26, color=_INK, zorder=3)

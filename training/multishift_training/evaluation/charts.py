# SPDX-License-Identifier: Apache-2.0
"""The charts of an evaluation, as SVG text for its page."""

from __future__ import annotations

from collections.abc import Mapping
import math

from matplotlib.figure import Figure
import matplotlib.style
import numpy as np
from numpy.typing import NDArray

from multishift_perception.classes import NOVEL, NOVEL_COLOR, SemanticClass
from multishift_perception.metrics import Curve
from multishift_perception.report.charts import COLORS, STYLE, svg
from multishift_training.evaluation.spread import KNOWN_ROW, NOVEL_ROW, ScoreSpread
from multishift_training.evaluation.tally import ALL

_STYLE = {**STYLE, 'axes.grid.axis': 'both'}
_KNOWN_COLOR = '#2f6fb0'
_NOVEL_COLOR = '#e0762f'
_BINS = 70
_COLUMNS = 4
_WIDTH = 9.6


def curves_chart(curves: Mapping[str, Curve]) -> str:
    """Return the precision-recall and the ROC curve of each name, side by side."""
    with matplotlib.style.context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.3), layout='constrained')
        ranking, roc = figure.subplots(1, 2)
        for i, (name, curve) in enumerate(curves.items()):
            is_all = name == ALL and len(curves) > 1
            color = '#1f2933' if is_all else COLORS[i % len(COLORS)]
            # Beyond the colours, dashes tell lines apart.
            dashes = ('-', '--', ':')[i // len(COLORS) % 3]
            look = {'color': color, 'linestyle': dashes, 'linewidth': 2.2 if is_all else 1.4}
            # From the first pixel reported on; a curve of precision has no point before it.
            ranking.plot(
                np.append(0, curve.tpr),
                np.append(curve.precision[0], curve.precision),
                **look,
                label=name.replace('_', ' '),
            )
            roc.plot(np.append(0, curve.fpr), np.append(0, curve.tpr), **look)
        roc.plot([0, 1], [0, 1], color='#9aa5b1', linewidth=0.8, linestyle=':')
        roc.axhline(0.95, color='#9aa5b1', linewidth=0.8)
        ranking.set(xlabel='recall', ylabel='precision', title='Precision and recall')
        roc.set(xlabel='false-positive rate', ylabel='true-positive rate', title='ROC')
        for axes in (ranking, roc):
            axes.set(xlim=(0, 1), ylim=(0, 1.02))
            axes.title.set_fontsize(10)
        if len(curves) > 1:
            figure.legend(loc='outside right center', frameon=False)
        return svg(figure)


def _edges(spread: ScoreSpread) -> NDArray[np.float64]:
    return np.asarray(np.linspace(*spread.range(), _BINS + 1), np.float64)


def conditions_chart(spread: ScoreSpread, threshold: float | None) -> str:
    """Return histograms of known and of novel pixels' scores, a panel for each condition."""
    edges = _edges(spread)
    names = spread.conditions
    rows = math.ceil(len(names) / _COLUMNS)
    columns = math.ceil(len(names) / rows)
    with matplotlib.style.context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.6 + 1.7 * rows), layout='constrained')
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            for row, what, color in (
                (KNOWN_ROW, 'known', _KNOWN_COLOR),
                (NOVEL_ROW, 'novel', _NOVEL_COLOR),
            ):
                shares = spread.of_condition(name, row, edges)
                axes.stairs(shares, edges, fill=True, color=color, alpha=0.55, label=what)
            if threshold is not None:
                axes.axvline(threshold, color='#1f2933', linewidth=1)
            axes.set_title(name.replace('_', ' ') or ALL, fontsize=10, parse_math=False)
            axes.set_yticks([])
            axes.set_xlim(edges[0], edges[-1])
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        for axes in panels[max(0, len(names) - columns) : len(names)]:
            axes.set_xlabel('score')
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc='outside right center', frameon=False
        )
        return svg(figure)


def classes_chart(
    spread: ScoreSpread, classes: Mapping[int, SemanticClass], threshold: float | None
) -> str:
    """Return a histogram of scores for every class that occurs and for novel pixels, in rows."""
    edges = _edges(spread)
    middles = (edges[1:] + edges[:-1]) / 2
    values = spread.classes
    with matplotlib.style.context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.3 * len(values)), layout='constrained')
        axes = figure.subplots()
        for place, value in enumerate(reversed(values)):
            rgb = NOVEL_COLOR if value == NOVEL else classes[value].color
            color = tuple(part / 255 for part in rgb)
            shares = spread.of_class(value, edges)
            tops = place + 0.92 * shares / max(shares.max(), 1e-12)
            axes.fill_between(middles, place, tops, color=color, alpha=0.75, linewidth=0)
        names = ['novel object' if v == NOVEL else classes[v].name for v in reversed(values)]
        axes.set_yticks(np.arange(len(values)), names, parse_math=False, va='bottom')
        axes.tick_params(axis='y', length=0)
        if threshold is not None:
            axes.axvline(threshold, color='#1f2933', linewidth=1)
        axes.set(xlabel='score', xlim=(edges[0], edges[-1]), ylim=(0, len(values)))
        axes.spines['left'].set_visible(False)
        return svg(figure)

# SPDX-License-Identifier: Apache-2.0
"""The charts of a report, as SVG text for an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
import io
import re

from matplotlib.figure import Figure
import matplotlib.style
from matplotlib.ticker import FormatStrFormatter
import numpy as np
from numpy.typing import NDArray

from multishift_perception.pipeline import score_unit
from multishift_perception.report.drive_evaluation import Scores

STYLE = {
    'svg.hashsalt': 'multishift',  # the same data give the same text
    'svg.fonttype': 'none',  # text stays text, in the page's font
    'font.family': 'sans-serif',
    'font.size': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': '#9aa5b1',
    'axes.axisbelow': True,
    'axes.grid': True,
    'axes.grid.axis': 'y',
    'grid.color': '#e4e7eb',
    'text.color': '#1f2933',
    'axes.labelcolor': '#52606d',
    'xtick.color': '#52606d',
    'ytick.color': '#52606d',
}
_LEVELS_PER_STEP = 4
COLORS = ('#2f6fb0', '#e0762f', '#4d9a6a', '#8a63b0', '#b0485a', '#6b7280')


def condition_chart(conditions: Sequence[Scores]) -> str:
    """Return bars of mIoU, AUROC and AP per condition; undefined values have no bar."""
    series = {
        'mIoU': [s.segmentation.miou for s in conditions],
        'AUROC': [s.anomaly.auroc for s in conditions],
        'AP': [s.anomaly.ap for s in conditions],
    }
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(9.6, 2.7), layout='constrained')
        axes = figure.subplots()
        for i, (name, values) in enumerate(series.items()):
            places = np.arange(len(values)) + (i - 1) * 0.26
            heights = [100 * v if v is not None else 0 for v in values]
            bars = axes.bar(places, heights, 0.24, label=name, color=COLORS[i])
            texts = ['' if v is None else f'{100 * v:.0f}' for v in values]
            axes.bar_label(bars, texts, fontsize=8, padding=1, color='#52606d')
        names = [s.name.replace('_', ' ') for s in conditions]
        axes.set_xticks(range(len(conditions)), names, parse_math=False)
        axes.set_ylim(0, 108)
        axes.set_yticks(range(0, 101, 25))
        axes.set_ylabel('%')
        figure.legend(loc='outside right center', frameon=False)
        return svg(figure)


def latency_chart(stages: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return one histogram of durations in milliseconds per stage, side by side."""
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(9.6, 2.3), layout='constrained')
        columns = figure.subplots(1, max(1, len(stages)), squeeze=False)[0]
        for axes, (name, ms), color in zip(columns, stages, COLORS, strict=False):
            axes.hist(ms, bins=30, color=color)
            p50, p99 = np.percentile(ms, [50, 99])
            axes.axvline(p50, color='#1f2933', linewidth=1)
            axes.axvline(p99, color='#1f2933', linewidth=1, linestyle=':')
            axes.set_title(name, fontsize=10, parse_math=False)
            axes.set_xlabel('ms')
            axes.set_xlim(left=0)
        columns[0].set_ylabel('count')
        return svg(figure)


def score_chart(before: NDArray[np.float64], after: NDArray[np.float64]) -> str:
    """Return the distribution of the published score before and after a calibration.

    Args:
        before: share of pixels at each level of the anomaly, ``float64 [256]``.
        after: the same, after.
    """
    levels = np.arange(0, 256, _LEVELS_PER_STEP, np.uint8)
    edges = np.append(score_unit(levels), 1.0)
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(9.6, 2.9), layout='constrained')
        axes = figure.subplots()
        for name, shares, color in (('before', before, COLORS[1]), ('after', after, COLORS[0])):
            steps = 100 * np.asarray(shares).reshape(-1, _LEVELS_PER_STEP).sum(1)
            axes.stairs(steps, edges, label=name, color=color, linewidth=1.5)
        axes.axvline(0.5, color='#1f2933', linewidth=1, linestyle=':')
        axes.text(
            0.505,
            0.97,
            'threshold 0.5',
            fontsize=9,
            va='top',
            transform=axes.get_xaxis_transform(),
        )
        axes.set_yscale('log')
        axes.yaxis.set_major_formatter(FormatStrFormatter('%g'))
        axes.set_xlim(0, 1)
        axes.set_xlabel('published score')
        axes.set_ylabel('% of pixels')
        figure.legend(loc='outside right center', frameon=False)
        return svg(figure)


def frame_share_chart(shares: NDArray[np.float64], asked: float, limit: float) -> str:
    """Return the share of every frame that is called anomalous, in the order of the frames.

    Args:
        shares: of each frame, 0..1, ``float64 [F]``.
        asked: the share that they should have on average.
        limit: as which a frame counts at most.
    """
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(9.6, 2.3), layout='constrained')
        axes = figure.subplots()
        axes.stairs(100 * shares, np.arange(len(shares) + 1), fill=True, color=COLORS[0])
        axes.axhline(100 * asked, color=COLORS[1], linewidth=1.5, label='asked for')
        axes.axhline(100 * limit, color='#1f2933', linewidth=1, linestyle=':', label='limit')
        axes.set_xlim(0, len(shares))
        axes.set_ylim(bottom=0)
        axes.set_xlabel('frame')
        axes.set_ylabel('% of pixels')
        figure.legend(loc='outside right center', frameon=False)
        return svg(figure)


def svg(figure: Figure) -> str:
    """Return a figure as SVG for a page that decides on its width."""
    text = io.StringIO()
    figure.savefig(text, format='svg', metadata={'Date': None}, transparent=True)
    drawn = text.getvalue()
    # Inside HTML there is no XML prologue, and the page decides on the width.
    drawn = drawn[drawn.index('<svg') :]
    return re.sub(
        r' width="[\d.]+pt" height="[\d.]+pt"|<metadata>.*?</metadata>', '', drawn, flags=re.S
    )

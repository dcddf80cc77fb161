# SPDX-License-Identifier: Apache-2.0
"""The charts of a report, as SVG text for an HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import io
import re
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.style
from matplotlib.ticker import FormatStrFormatter
import numpy as np
from numpy.typing import NDArray

from multishift_perception.pipeline import score_unit
from multishift_perception.report.drive_evaluation import Scores
from multishift_perception.report.frame_table import FrameTable

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
# Of Okabe and Ito, "Color Universal Design" (2008): told apart by colour-blind people, too.
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#6b7280')
# Dots are the truth's.
_DASHES = ('-', '--', '-.')
# Points of a line; a longer drive is drawn by the means and the largest values of its parts.
_POINTS = 480
_FRAME_BINS = 120


class Timeline(NamedTuple):
    """A chart over the time of a drive.

    Attributes:
        svg: the chart.
        left: where the drive begins, as a share of the chart's width.
        right: likewise, where it ends.
        start: the time at ``left``, seconds.
        end: the time at ``right``.
    """

    svg: str
    left: float
    right: float
    start: float
    end: float


def timeline_chart(frames: FrameTable) -> Timeline:
    """Return what became of a drive over its time: anomalous share, latency, shift, drops.

    Args:
        frames: of the drive; one at least.
    """
    times = frames.column('time')
    start, end = float(times.min()), float(times.max())
    if end <= start:
        start, end = start - 0.5, end + 0.5
    has_shift = not np.all(np.isnan(frames.column('shift')))
    rows = ['anomalous', 'latency_ms', *(['shift'] if has_shift else []), 'frames']
    heights = [2.2 if row == 'anomalous' else 1.2 for row in rows]
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(9.6, 0.95 * sum(heights)), layout='constrained')
        panels = figure.subplots(len(rows), sharex=True, height_ratios=heights)
        for axes, row in zip(panels, rows, strict=True):
            _TIMELINE[row](axes, frames)
        panels[-1].set_xlim(start, end)
        panels[-1].set_xlabel('seconds since the start of the drive')
        figure.align_ylabels(panels)
        drawn = svg(figure)  # places the axes, too
        place = panels[-1].get_position()
        return Timeline(drawn, float(place.x0), float(place.x1), start, end)


def _draw_shares(axes: Axes, frames: FrameTable) -> None:
    _draw_cameras(axes, frames, 'anomalous', scale=100)
    for i, camera in enumerate(frames.cameras()):
        times, shares = (frames.column(name, camera=camera) for name in ('time', 'novel'))
        # The colour says of which camera, the dots that it is the truth.
        color = COLORS[i % len(COLORS)] if len(frames.cameras()) > 1 else '#1f2933'
        _draw_line(axes, times, 100 * shares, color, ':', f'{camera}, truth')
    axes.set_ylabel('anomalous, %')
    axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend(loc='upper left', bbox_to_anchor=(1.0, 1.05), frameon=False)


def _draw_latency(axes: Axes, frames: FrameTable) -> None:
    _draw_cameras(axes, frames, 'latency_ms')
    axes.set_ylabel('latency, ms')
    axes.set_ylim(bottom=0)


def _draw_shift(axes: Axes, frames: FrameTable) -> None:
    _draw_cameras(axes, frames, 'shift')
    axes.set_ylabel('domain shift')


def _draw_cameras(axes: Axes, frames: FrameTable, name: str, *, scale: float = 1) -> None:
    """Draw a line for each camera, in the same colours in all panels."""
    for i, camera in enumerate(frames.cameras()):
        times, values = (frames.column(column, camera=camera) for column in ('time', name))
        color, dashes = COLORS[i % len(COLORS)], _DASHES[i % len(_DASHES)]
        _draw_line(axes, times, scale * values, color, dashes, camera)


def _draw_frames(axes: Axes, frames: FrameTable) -> None:
    times, dropped = frames.column('time'), frames.column('dropped')
    bins = max(1, min(_FRAME_BINS, len(frames) // 4))
    edges = np.linspace(times.min(), max(times.max(), times.min() + 1e-3), bins + 1)
    seen, _ = np.histogram(times[dropped == 0], edges)
    lost, _ = np.histogram(times[dropped == 1], edges)
    axes.stairs(seen, edges, fill=True, color=COLORS[0], alpha=0.45, label='received')
    if lost.any():
        axes.stairs(
            seen + lost,
            edges,
            baseline=seen,
            fill=True,
            facecolor=COLORS[1],
            edgecolor='white',
            hatch='////',
            label='dropped',
        )
    axes.set_ylabel('frames')
    axes.set_ylim(bottom=0)
    axes.legend(loc='upper left', bbox_to_anchor=(1.0, 1.05), frameon=False)


_TIMELINE: Mapping[str, Callable[[Axes, FrameTable], None]] = {
    'anomalous': _draw_shares,
    'latency_ms': _draw_latency,
    'shift': _draw_shift,
    'frames': _draw_frames,
}


def _draw_line(
    axes: Axes,
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    color: str,
    dashes: str,
    label: str = '',
) -> None:
    known = ~np.isnan(values)
    times, values = times[known], values[known]
    if not len(times):
        return
    if len(times) > _POINTS:
        parts = np.arange(len(times)) * _POINTS // len(times)
        starts = np.flatnonzero(np.diff(parts, prepend=-1))
        sizes = np.diff(starts, append=len(times))
        largest = np.maximum.reduceat(values, starts)
        times = np.add.reduceat(times, starts) / sizes
        values = np.add.reduceat(values, starts) / sizes
        axes.fill_between(times, values, largest, color=color, alpha=0.25, linewidth=0)
    marker = 'o' if len(times) == 1 else ''
    axes.plot(times, values, dashes, marker=marker, color=color, linewidth=1.2, label=label)


def share_chart(shares: NDArray[np.float64]) -> str:
    """Return how many frames have which anomalous share.

    Args:
        shares: of each frame, 0..1, ``float64 [F]``.
    """
    percents = 100 * shares
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(9.6, 2.1), layout='constrained')
        axes = figure.subplots()
        axes.hist(percents, bins=40, range=(0.0, max(1.0, float(percents.max()))), color=COLORS[0])
        for share, dashes in ((50, '-'), (99, ':')):
            at = float(np.percentile(percents, share))
            axes.axvline(at, color='#1f2933', linewidth=1, linestyle=dashes, label=f'p{share}')
        axes.set_xlim(left=0)
        axes.set_xlabel('anomalous pixels of a frame, %')
        axes.set_ylabel('frames')
        figure.legend(loc='outside right center', frameon=False)
        return svg(figure)


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

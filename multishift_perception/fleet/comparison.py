# SPDX-License-Identifier: Apache-2.0
"""What got better or worse since an earlier report over the same bags.

Differences are of merged metrics. Their intervals come of the bootstrap over bags (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13): bags are drawn anew with
replacement, the same for both reports, and the metrics are taken of what is merged of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from multishift_perception.errors import MultishiftError
from multishift_perception.fleet.folder import Kept
from multishift_perception.fleet.result import BagResult
from multishift_perception.metrics.score_bins import count_in_bins, rank_edges
from multishift_perception.report.drive_counts import DriveCounts
from multishift_perception.report.text import align_columns

Floats = NDArray[np.float64]

_DRAWS = 1000
_SEED = 0
_CONFIDENCE = 0.95
# Bins of the scores, for intervals only: metrics themselves are as exact as in the report.
_BINS = 512
ALL = 'all'


class _Metric(NamedTuple):
    """A figure, and how it comes of whole numbers that add up over bags.

    Attributes:
        name: of the figure.
        sign: 1 where more is better, else -1.
        figure: of merged counts, as the report has it.
        counts: which of `_counts` it comes of.
        value: what comes of sums ``[R,K]`` of them over R draws of bags, ``[R]``; NaN where
            undefined.
    """

    name: str
    sign: int
    figure: Callable[[DriveCounts], float | None]
    counts: str
    value: Callable[[Floats], Floats]


def _mean_iou(sums: Floats) -> Floats:
    """Return the mIoU of `_class_counts`."""
    hits, truth, predicted = np.split(sums, 3, axis=1)
    whole = truth + predicted - hits
    iou = np.divide(hits, whole, out=np.full_like(hits, np.nan), where=whole > 0)
    known = (whole > 0).sum(1)
    return _share(np.nansum(iou, axis=1), known)


def _share(part: Floats, whole: NDArray[Any]) -> Floats:
    found = np.full(len(part), np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def _running_counts(sums: Floats) -> tuple[Floats, Floats]:
    """Return true- and false-positive counts, running from the highest score."""
    known, novel = np.split(sums, 2, axis=1)
    return np.cumsum(novel[:, ::-1], axis=1), np.cumsum(known[:, ::-1], axis=1)


def _auroc(sums: Floats) -> Floats:
    true, false = _running_counts(sums)
    before = np.pad(true, ((0, 0), (1, 0)))[:, :-1]
    steps = np.diff(false, axis=1, prepend=0)
    return _share((steps * (true + before) / 2).sum(1), true[:, -1] * false[:, -1])


def _ap(sums: Floats) -> Floats:
    true, false = _running_counts(sums)
    precision = true / np.maximum(true + false, 1)
    return _share((np.diff(true, axis=1, prepend=0) * precision).sum(1), true[:, -1])


def _fpr95(sums: Floats) -> Floats:
    true, false = _running_counts(sums)
    first = np.argmax(true >= 0.95 * true[:, -1:], axis=1)
    share = _share(false[np.arange(len(false)), first], false[:, -1])
    return np.where(true[:, -1] > 0, share, np.nan)


def _ratio(sums: Floats) -> Floats:
    """Return the first of two numbers as a share of the second."""
    return _share(sums[:, 0], sums[:, 1])


METRICS: tuple[_Metric, ...] = (
    _Metric('mIoU', 1, lambda c: c.segmentation.result().miou, 'classes', _mean_iou),
    _Metric('AUROC', 1, lambda c: c.anomaly.result().auroc, 'scores', _auroc),
    _Metric('AP', 1, lambda c: c.anomaly.result().ap, 'scores', _ap),
    _Metric('FPR95', -1, lambda c: c.anomaly.result().fpr95, 'scores', _fpr95),
    _Metric('found', 1, lambda c: c.operating.result().tpr, 'novel', _ratio),
    _Metric('false alarms', -1, lambda c: c.operating.result().fpr, 'known', _ratio),
    _Metric('streaming mIoU', 1, lambda c: c.streaming.result().miou, 'newest classes', _mean_iou),
    _Metric('objects found', 1, lambda c: c.objects.result().found_share, 'objects', _ratio),
    _Metric(
        'label flicker',
        -1,
        lambda c: c.temporal.result().label_flicker,
        'flicker',
        _ratio,
    ),
)


@dataclass(frozen=True)
class Change:
    """How a figure changed, as fractions; None where it is undefined.

    Attributes:
        metric: its name.
        old: in the earlier report.
        new: in this one.
        low: of the interval that holds the difference with 95 % confidence; None where only one
            bag has any of what the figure is of.
        high: likewise.
        gain: the difference, positive where it is better now.
    """

    metric: str
    old: float | None
    new: float | None
    low: float | None
    high: float | None
    gain: float | None


@dataclass(frozen=True)
class Comparison:
    """What changed.

    Attributes:
        bags: how many both reports have.
        left_out: names of bags whose recording one of them lacks.
        thresholds: of the anomaly masks, old and new.
        min_areas: pixels that a region of them has at least, likewise.
        changes: by group: ``all``, and each condition that both have.
    """

    bags: int
    left_out: tuple[str, ...]
    thresholds: tuple[float, float]
    min_areas: tuple[int, int]
    changes: Mapping[str, tuple[Change, ...]]

    def content(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            'bags': self.bags,
            'left_out': list(self.left_out),
            'thresholds': list(self.thresholds),
            'min_areas': list(self.min_areas),
            'changes': {g: [asdict(change) for change in c] for g, c in self.changes.items()},
        }

    def losses(self, allowed: Mapping[str, float]) -> list[str]:
        """Return the losses over all bags that are larger than allowed, a line each.

        Args:
            allowed: percentage points by name of the metric; under the empty name, of all others.
        """
        lines = []
        for change in self.changes[ALL]:
            most = allowed.get(change.metric, allowed.get(''))
            if most is None:
                continue
            if change.new is None and change.old is not None:
                lines.append(f'{change.metric} is undefined, and was {100 * change.old:.2f} %')
            elif change.gain is not None and -100 * change.gain > most:
                lines.append(
                    f'{change.metric} is worse by {-100 * change.gain:.2f} points; {most:g} are '
                    'allowed'
                )
        return lines

    def lines(self) -> list[str]:
        """Return tables for a terminal."""
        rows: list[tuple[str, ...]] = [('', 'old', 'new', 'change', '95 % interval', '')]
        for group, changes in self.changes.items():
            rows += [_row(group, change) for change in changes if change.gain is not None]
        lines = align_columns(rows)
        if len(rows) == 1:
            lines = [
                'No figure is in both reports: without ground truth there is none to compare.'
            ]
        old, new = self.thresholds
        if old != new:
            lines.append(
                f'The threshold was {old:g} and is {new:g}: what is found, and false alarms, '
                'change by that alone.'
            )
        first, second = self.min_areas
        if max(first, 1) != max(second, 1):
            lines.append(
                f'The least area of an anomalous region was {first} and is {second} pixels: what '
                'is found, and false alarms, change by that alone.'
            )
        if self.bags == 1:
            lines.append('One bag: no interval, which takes several.')
        if self.left_out:
            names = ', '.join(self.left_out[:3]) + (', ...' if len(self.left_out) > 3 else '')
            lines.append(f'Left out are recordings that one of the reports lacks: {names}')
        return lines


def _row(group: str, change: Change) -> tuple[str, ...]:
    assert change.old is not None and change.new is not None and change.gain is not None
    interval, verdict = '–', ''
    if change.low is not None and change.high is not None:
        interval = f'{100 * change.low:+.2f} to {100 * change.high:+.2f}'
        if change.low > 0 or change.high < 0:
            verdict = 'better' if change.gain > 0 else 'worse'
    return (
        f'{group}: {change.metric}',
        f'{100 * change.old:.2f} %',
        f'{100 * change.new:.2f} %',
        f'{100 * (change.new - change.old):+.2f}',
        interval,
        verdict,
    )


def compare(old: Kept, new: Kept) -> Comparison:
    """Return what changed over the bags that both reports have.

    Args:
        old: the bags of the earlier report.
        new: those of this one.

    Raises:
        MultishiftError: no bag is in both, they are of different classes, or one is damaged.
    """
    pairs = _paired(old.recordings, new.recordings)
    if not pairs:
        alike = (
            'bags of one name are other recordings'
            if {*old.recordings} & {*new.recordings}
            else 'whatever the names'
        )
        raise MultishiftError(
            f'{old.report} and {new.report} have no recording in common ({alike}): compare '
            'reports of the same bags'
        )
    if old.classes != new.classes:
        both = zip_longest(old.classes, new.classes, fillvalue='none')
        first, second = next((a, b) for a, b in both if a != b)
        raise MultishiftError(
            f'{old.report} and {new.report} are of other classes ({first} in place of {second}): '
            'compare engines of the same classes'
        )
    before, after = _Side(old, [*pairs]), _Side(new, [*pairs.values()])
    groups = [ALL, *(group for group in after.totals if group != ALL and group in before.totals)]
    chances = np.full(len(pairs), 1 / len(pairs))
    drawn = np.random.default_rng(_SEED).multinomial(len(pairs), chances, size=_DRAWS)
    changes = {g: tuple(_changes((before, after), g, drawn.astype(float))) for g in groups}
    return Comparison(
        bags=len(pairs),
        left_out=tuple(
            sorted({*old.recordings} - {*pairs} | {*new.recordings} - {*pairs.values()})
        ),
        thresholds=(old.threshold, new.threshold),
        min_areas=(old.min_area, new.min_area),
        changes=changes,
    )


def _paired(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return the names that each recording in both has in the old and in the new report.

    A recording is the same wherever it lies. Where several have one digest, such as copies, they
    go by their names.
    """
    pairs = {name: name for name in new if old.get(name) == new[name]}
    left_old, left_new = ({n: r for n, r in side.items() if n not in pairs} for side in (old, new))
    counts = [Counter(side.values()) for side in (left_old, left_new)]
    single = {r for r in counts[0] if counts[0][r] == counts[1][r] == 1}
    by_recording = {r: name for name, r in left_new.items() if r in single}
    return pairs | {name: by_recording[r] for name, r in left_old.items() if r in single}


def _changes(sides: tuple[_Side, _Side], group: str, weights: Floats) -> Iterator[Change]:
    tables = [side.tables[group] for side in sides]
    for metric in METRICS:
        old, new = (metric.figure(side.totals[group]) for side in sides)
        low = high = gain = None
        if old is not None and new is not None:
            gain = metric.sign * (new - old)
            if weights.shape[1] > 1:
                low, high = _interval(metric, tables, weights, new - old)
        yield Change(metric.name, old, new, low, high, gain)


def _interval(
    metric: _Metric, tables: Sequence[Mapping[str, Floats]], weights: Floats, difference: float
) -> tuple[float | None, float | None]:
    """Return the ends of the bootstrap's interval of a difference; None where there is none.

    Args:
        metric: the figure.
        tables: of the old and the new report, by kind of counts, ``[B,K]``.
        weights: how often each draw has each bag, ``[R,B]``.
        difference: of the figure, new less old, as exact as in the reports.
    """
    has_any = np.any([table[metric.counts].any(axis=1) for table in tables], axis=0)
    if has_any.sum() < 2:  # drawn anew, one bag is always itself
        return None, None
    everything = np.ones((1, weights.shape[1]))
    drawn, whole = (
        np.subtract(*(metric.value(w @ table[metric.counts]) for table in reversed(tables)))
        for w in (weights, everything)
    )
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size:
        return None, None
    tail = (1 - _CONFIDENCE) / 2
    # Binned figures stand for the spread alone.
    low, high = np.quantile(drawn, [tail, 1 - tail]) + (difference - whole[0])
    return float(low), float(high)


class _Side:
    """The bags of one report: totals by group, and what the bootstrap draws from.

    Attributes:
        totals: merged counts of ``all`` and of each condition.
        tables: by group and kind of counts, a row for each bag, ``[B,K]``.
    """

    def __init__(self, kept: Kept, names: Sequence[str]) -> None:
        """Read the bags twice, one after the other: there may be thousands."""
        self.totals: dict[str, DriveCounts] = {}
        for name in names:
            for group, counts in _by_group(kept.result(name)).items():
                if group not in self.totals:
                    self.totals[group] = DriveCounts(counts.segmentation.num_classes)
                self.totals[group].merge(counts)
        edges = {g: rank_edges(c.anomaly.bins(), _BINS) for g, c in self.totals.items()}
        rows: dict[str, list[dict[str, NDArray[np.int64]]]] = {group: [] for group in self.totals}
        empty = DriveCounts(self.totals[ALL].segmentation.num_classes)
        for name in names:
            found = _by_group(kept.result(name))
            for group in self.totals:
                rows[group].append(_counts(found.get(group, empty), edges[group]))
        self.tables = {
            group: {key: np.array([row[key] for row in found], float) for key in found[0]}
            for group, found in rows.items()
        }


def _by_group(result: BagResult) -> dict[str, DriveCounts]:
    parts: dict[str, list[DriveCounts]] = {}
    for (_, condition), counts in result.groups.items():
        for group in dict.fromkeys((ALL, condition or ALL)):
            parts.setdefault(group, []).append(counts)
    found = {g: DriveCounts(some[0].segmentation.num_classes) for g, some in parts.items()}
    for group, whole in found.items():
        whole.merge(*parts[group])
    return found


def _counts(counts: DriveCounts, edges: NDArray[np.uint32]) -> dict[str, NDArray[np.int64]]:
    """Return what the figures of a bag are made of, as whole numbers that add up."""
    (known, false), (missed, found) = counts.operating.pixels.tolist()
    objects, flicker = counts.objects, counts.temporal
    return {
        'classes': _class_counts(counts.segmentation.confusion),
        'scores': count_in_bins(counts.anomaly.bins(), edges).reshape(-1),
        'novel': np.array([found, found + missed]),
        'known': np.array([false, false + known]),
        'newest classes': _class_counts(counts.streaming.segmentation.confusion),
        'objects': np.array([len(objects.delays), objects.objects]),
        'flicker': np.array([flicker.known_labels, flicker.known]),
    }


def _class_counts(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return hits, pixels of the truth and predicted pixels, of each class, ``[3C]``."""
    return np.concatenate([np.diag(confusion), confusion.sum(1), confusion.sum(0)])

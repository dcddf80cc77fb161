# SPDX-License-Identifier: Apache-2.0
"""What got better or worse: figures against direct computation, and an interval that covers."""

from __future__ import annotations

from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner
import numpy as np
import pytest

from multishift_perception.classes import NOVEL
from multishift_perception.cli import replay as command
from multishift_perception.cli.main import multishift
from multishift_perception.destinations import REPLAY_MANY
from multishift_perception.errors import MultishiftError
from multishift_perception.fleet.comparison import ALL, METRICS, Comparison, compare
from multishift_perception.fleet.folder import Kept
from multishift_perception.fleet.result import STATE, BagResult
from multishift_perception.metrics import AnomalyMetrics
from multishift_perception.metrics.score_bins import count_in_bins, rank_edges
from multishift_perception.report.drive_counts import DriveCounts


@dataclass
class Reports:
    """Stands for the bags of a report."""

    results: dict[str, BagResult]
    report: Path = Path('report')
    classes: tuple[str, ...] = ('road', 'sky')
    threshold: float = 0.5
    min_area: int = 0

    @property
    def recordings(self) -> dict[str, str]:
        return {name: result.recording for name, result in self.results.items()}

    def result(self, name: str) -> BagResult:
        return self.results[name]


def bag(name: str, seed: int, right: float, recording: str = '') -> BagResult:
    """Return a bag whose labels and scores are right so often."""
    rng = np.random.default_rng(seed)
    groups = {}
    for condition in ('day', 'fog'):
        truth = rng.choice([0, 1, NOVEL], (20, 30), p=[0.5, 0.4, 0.1]).astype(np.uint8)
        hit = np.random.default_rng(seed + 100).random(truth.shape) < right
        labels = np.where(hit & (truth < 2), truth, 1).astype(np.uint8)
        score = (rng.random(truth.shape) + (hit & (truth == NOVEL))).astype(np.float32)
        counts = DriveCounts(2)
        mask = (score > 0.9).astype(np.uint8)
        counts.add(labels, mask, score, truth, np.clip(score * 100, 0, 255).astype(np.uint8))
        groups['front', condition] = counts
    return BagResult(name, groups, (), np.zeros(1), 1.0, (), recording or name)


def fleet(right: float, *, count: int = 5, spread: float = 0.0) -> Any:
    return Reports(
        {
            f'{i}.mcap': bag(f'{i}.mcap', i, right + spread * (i / count - 0.5))
            for i in range(count)
        }
    )


def change(found: Comparison, metric: str, group: str = ALL) -> Any:
    return next(c for c in found.changes[group] if c.metric == metric)


def test_figures_are_of_merged_counts_and_their_intervals_hold_them() -> None:
    old, new = fleet(0.7, spread=0.2), fleet(0.75, spread=0.1)
    found = compare(old, new)
    assert list(found.changes) == [ALL, 'day', 'fog'] and found.bags == 5
    total = AnomalyMetrics()
    for name in new.recordings:
        for counts in new.result(name).groups.values():
            total.merge(counts.anomaly)
    for metric, value in (('AP', total.result().ap), ('FPR95', total.result().fpr95)):
        assert change(found, metric).new == pytest.approx(value, abs=1e-9)
    for metric in ('mIoU', 'AUROC', 'AP', 'found'):
        one = change(found, metric)
        assert one.gain == one.new - one.old > 0
        assert one.low < one.gain < one.high
    assert change(found, 'false alarms').gain == -(
        change(found, 'false alarms').new - change(found, 'false alarms').old
    )


def test_the_interval_is_that_of_bags_drawn_anew() -> None:
    old, new = fleet(0.7, spread=0.3), fleet(0.8)
    found = change(compare(old, new), 'mIoU')
    rng, drawn = np.random.default_rng(1), []
    for _ in range(200):
        names = rng.choice([*old.recordings], len(old.recordings))
        means = []
        for side in (old, new):
            total = DriveCounts(2)
            for name in names:
                for counts in side.result(name).groups.values():
                    total.segmentation.merge(counts.segmentation)
            means.append(total.segmentation.result().miou)
        drawn.append(means[1] - means[0])
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_what_did_not_change_has_no_interval_but_zero() -> None:
    same = compare(fleet(0.7, count=2), fleet(0.7, count=2))
    assert compare(fleet(0.7, count=2), fleet(0.7, count=2)) == same
    for one in same.changes[ALL]:
        assert one.gain in (0.0, None)
        assert one.gain is None or (one.low, one.high) == (0.0, 0.0)
    assert same.losses({'': 0.0}) == []


def test_losses_are_those_over_all_bags_above_what_is_allowed() -> None:
    found = compare(fleet(0.8), fleet(0.7))
    lost = -100 * change(found, 'mIoU').gain
    assert lost > 1
    assert found.losses({'mIoU': lost + 0.01, 'AP': 100.0}) == []
    [line] = found.losses({'mIoU': lost - 0.01})
    assert line.startswith('mIoU is worse by')
    assert len(found.losses({'': 0.5, 'mIoU': 100.0})) >= 2
    assert not any('mIoU is' in line for line in found.losses({'': 0.5, 'mIoU': 100.0}))
    assert 'worse' in '\n'.join(found.lines())


def test_recordings_are_paired_wherever_they_lie() -> None:
    old: Any = Reports({n: bag(n, 1, 0.7, r) for n, r in (('a', 'A'), ('b', 'B'), ('c', 'C'))})
    # One was moved, and by the name of another there is something else.
    names = (('day/a', 'A'), ('b', 'X'), ('c', 'C'))
    new: Any = Reports({n: bag(n, 1, 0.8, r) for n, r in names})
    found = compare(old, new)
    assert (found.bags, found.left_out) == (2, ('b',))
    # Copies are told apart by their names, and else not at all.
    old = Reports({n: bag(n, 1, 0.7, 'A') for n in ('a', 'b', 'c')})
    new = Reports({n: bag(n, 1, 0.7, 'A') for n in ('b', 'x', 'y')})
    assert compare(old, new).left_out == ('a', 'c', 'x', 'y')
    with pytest.raises(MultishiftError, match='bags of one name are other recordings'):
        compare(old, Reports({'a': bag('a', 1, 0.7, 'B')}))  # type: ignore[arg-type]


def test_without_ground_truth_nothing_is_compared() -> None:
    bare: Any = Reports({'a': BagResult('a', {}, (), np.zeros(1), 1.0, (), 'A')})
    bare.results['a'].groups['front', ''] = DriveCounts(2)
    assert compare(bare, bare).lines()[0].startswith('No figure is in both reports')


def test_only_bags_of_both_are_compared() -> None:
    found = compare(fleet(0.7, count=3), fleet(0.8, count=1))
    assert (found.bags, found.left_out) == (1, ('1.mcap', '2.mcap'))
    assert change(found, 'mIoU').low is None
    text = '\n'.join(found.lines())
    assert 'One bag: no interval' in text and 'Left out are recordings' in text
    other: Any = Reports({'x.mcap': bag('x.mcap', 1, 0.5)})
    with pytest.raises(MultishiftError, match='no recording in common'):
        compare(fleet(0.7, count=2), other)


def test_a_condition_of_one_bag_has_no_interval() -> None:
    old, new = fleet(0.7, count=3), fleet(0.8, count=3)
    for reports in (old, new):
        for name in ('0.mcap', '1.mcap'):
            del reports.results[name].groups['front', 'fog']
    found = compare(old, new)
    assert change(found, 'mIoU').low is not None and change(found, 'mIoU', 'day').low is not None
    assert change(found, 'mIoU', 'fog').gain and change(found, 'mIoU', 'fog').low is None


def test_other_classes_are_refused_and_another_mask_is_told() -> None:
    old, new = fleet(0.7, count=1), fleet(0.7, count=1)
    assert 'by that alone' not in '\n'.join(compare(old, new).lines())
    new.threshold, new.min_area = 0.7, 60
    lines = '\n'.join(compare(old, new).lines())
    assert 'was 0.5 and is 0.7' in lines and 'region was 0 and is 60 pixels' in lines
    assert compare(old, new).content()['thresholds'] == [0.5, 0.7]
    new.classes = ('road', 'lawn')
    with pytest.raises(MultishiftError, match=r'\(sky in place of lawn\)'):
        compare(old, new)


@pytest.mark.parametrize(
    'content', ['{"finished":', '[]', '{}', '{"command": "X", "finished": true, "bags": null}']
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / 'metrics.json').write_text(content.replace('X', REPLAY_MANY))
    with pytest.raises(MultishiftError, match='no finished report'):
        Kept(tmp_path)


def test_bins_keep_every_pixel_and_narrow_towards_the_top() -> None:
    rng = np.random.default_rng(0)
    score = rng.random((50, 60)).astype(np.float32)
    truth = np.where(rng.random(score.shape) < 0.1, NOVEL, 0).astype(np.uint8)
    metrics = AnomalyMetrics()
    metrics.update(score, truth)
    edges = rank_edges(metrics.bins(), 16)
    counts = count_in_bins(metrics.bins(), edges)
    assert counts.sum(1).tolist() == [(truth == 0).sum(), (truth == NOVEL).sum()]
    assert counts.sum(0)[-1] < 10 < counts.sum(0)[: len(edges) // 4].mean()


def test_the_command_knows_the_metrics() -> None:
    assert tuple(metric.name for metric in METRICS) == command._METRICS


@pytest.mark.usefixtures('plain')
def test_a_nightly_job_ends_with_three_where_too_much_is_lost(
    drives: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    def run(*arguments: object) -> Any:
        words = ['replay', str(drives / '2.mcap'), '--engine', str(tiny_bundle), '--json']
        words += ['--backend', 'openvino', *map(str, arguments)]
        return CliRunner().invoke(multishift, words, catch_exceptions=False)

    old, new = tmp_path / 'old', tmp_path / 'new'
    assert run('--out', old).exit_code == 0
    assert (old / STATE).exists()
    arguments = ['--out', new, '--force', '--compare', old, '--threshold', '1']
    found = run(*arguments, '--max-loss', 'mIoU=0')
    assert found.exit_code == 0
    changes = json.loads(found.stdout)['comparison']['changes']['all']
    assert next(c for c in changes if c['metric'] == 'found')['gain'] < 0
    assert json.loads((new / 'comparison.json').read_text())['bags'] == 1
    worse = run(*arguments, '--max-loss', '1')
    assert worse.exit_code == 3 and 'loss: found is worse by' in worse.stderr
    for wrong, words in (('x=1', 'is none of'), ('mIoU=x', 'neither POINTS'), ('-1', 'or more')):
        found = CliRunner().invoke(multishift, ['replay', 'x', '--out', 'y', '--max-loss', wrong])
        assert words in str(found.output) + str(found.exception)

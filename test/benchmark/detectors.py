# SPDX-License-Identifier: Apache-2.0
"""Compares detectors of an experiment that stand on different ways: is one better for its base?

    python test/benchmark/detectors.py EXPERIMENT.yaml FOLDER

FOLDER is what `multishift compare EXPERIMENT.yaml --out FOLDER` left. Detectors are the ways with
an ``uncertainty`` score; each starts from a way that has ``max_softmax``, or from the closed
world. Printed are paired differences to the first detector and to what each starts from, and the
rank correlation, seed by seed, of the mIoU of the base with the AP of the detector.
"""

from __future__ import annotations

from pathlib import Path

import click
from scipy.stats import spearmanr

from multishift_training.comparison.config import read_experiment
from multishift_training.comparison.folder import ComparisonFolder
from multishift_training.comparison.jobs import list_jobs
from multishift_training.comparison.statistics import Difference, paired_difference

BySeed = dict[int, float]


def shown(difference: Difference | None) -> str:
    """Return a difference with its interval, in %."""
    if difference is None:
        return '–'
    mean = f'{100 * difference.mean:+.1f}'
    if difference.low is None or difference.high is None:
        return mean
    return f'{mean} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]'


def rank_correlation(one: dict[str, BySeed], other: dict[str, BySeed]) -> BySeed:
    """Return Spearman's of two figures over the ways that have both, by seed."""
    seeds = sorted({seed for by_seed in other.values() for seed in by_seed})
    found = {}
    for seed in seeds:
        ways = [way for way in other if seed in other[way] and seed in one.get(way, {})]
        pairs = [one[way][seed] for way in ways], [other[way][seed] for way in ways]
        found[seed] = float(spearmanr(*pairs).statistic)
    return found


@click.command(help=__doc__)
@click.argument('config', type=click.Path(path_type=Path))
@click.argument('out', type=click.Path(path_type=Path))
@click.option('--base-miou', default='dusk,idd_lite', help='Tests whose mean mIoU a base has.')
@click.option('--found', default='road_anomaly21,road_obstacle21,drive', help='Tests for AP.')
def main(config: Path, out: Path, base_miou: str, found: str) -> None:
    """Print it."""
    experiment = read_experiment(config)
    folder = ComparisonFolder(out, experiment)
    jobs = [job for job in list_jobs(experiment, experiment.seeds) if folder.is_done(job)]
    bases: dict[str, str | None] = {}  # of each detector

    def figure(way: str, score: str, tests: list[str], metric: str) -> BySeed:
        by_seed = {}
        for job in jobs:
            if job.way == way:
                parts = [folder.figures(job)[test][score]['all'][metric] for test in tests]
                assert None not in parts
                by_seed[job.seed] = sum(filter(None, parts)) / len(parts)
        return by_seed

    for job in jobs:
        if 'uncertainty' in job.training.scores:
            bases.setdefault(job.way, job.starts_from)
    if not bases:
        raise click.ClickException(f'{out} has no detector that is done')
    mean = base_miou.split(',')
    first = next(iter(bases))
    miou = {d: figure(b, 'max_softmax', mean, 'mIoU') for d, b in bases.items() if b}
    for detector, base in bases.items():
        own = figure(detector, 'uncertainty', mean, 'mIoU')
        click.echo(f'{detector}, on {base}: mIoU {shown(paired_difference(own, miou[detector]))}')
        for test in found.split(','):
            for metric in ('AP', 'FPR95'):
                own = figure(detector, 'uncertainty', [test], metric)
                to_first = paired_difference(own, figure(first, 'uncertainty', [test], metric))
                below = figure(base or '', 'max_softmax', [test], metric)
                click.echo(
                    f'  {test} {metric}: to {first} {shown(to_first)}, '
                    f'to its base {shown(paired_difference(own, below))}'
                )
    for test in found.split(','):
        ap = {detector: figure(detector, 'uncertainty', [test], 'AP') for detector in bases}
        ranks = {seed: round(rho, 2) for seed, rho in rank_correlation(miou, ap).items()}
        click.echo(f'rank correlation of the mIoU of bases with AP on {test}, by seed: {ranks}')


if __name__ == '__main__':
    main()

# SPDX-License-Identifier: Apache-2.0
"""The figures of all seeds, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multishift_training.comparison.config import Experiment
from multishift_training.comparison.folder import MEASURED, ComparisonFolder, EngineTime, Figures
from multishift_training.comparison.jobs import Job
from multishift_training.comparison.statistics import (
    Difference,
    Spread,
    paired_difference,
    spread,
)
from multishift_training.evaluation.tally import ALL

# Of a part of the tests: by metric and seed.
_BySeed = dict[str, dict[int, float]]


@dataclass(frozen=True)
class Cell:
    """A metric of a row.

    Attributes:
        by_seed: a fraction 0..1 for each seed that has it.
        spread: of those; None where there are none.
        difference: to the baseline; None of the baseline itself, and where no seed has both.
    """

    by_seed: Mapping[int, float]
    spread: Spread | None
    difference: Difference | None


@dataclass(frozen=True)
class Row:
    """A way, judged by a score, on a part of the tests.

    Attributes:
        way: its name.
        score: name of the score.
        cells: by metric.
        engines: what its engine takes, by precision.
    """

    way: str
    score: str
    cells: Mapping[str, Cell]
    engines: Mapping[str, EngineTime]

    @property
    def name(self) -> str:
        """Way and score."""
        return f'{self.way} ({self.score})'

    @property
    def seeds(self) -> int:
        """How many seeds there are figures of."""
        return max(len(cell.by_seed) for cell in self.cells.values())


@dataclass(frozen=True)
class Results:
    """What an experiment has found so far.

    Attributes:
        baseline: way and score that differences are to.
        seeds: those of the experiment.
        parts: rows by part of the tests: ``TEST``, ``TEST, CONDITION`` where it has several, and
            the means.
        missing: jobs that are not done, in words.
        precisions: those of the engines that were timed.
    """

    baseline: tuple[str, str]
    seeds: Sequence[int]
    parts: Mapping[str, Sequence[Row]]
    missing: Sequence[str]
    precisions: Sequence[str] = ()


def gather_results(
    experiment: Experiment, folder: ComparisonFolder, jobs: Sequence[Job]
) -> Results:
    """Put together what is measured of some jobs."""
    values: dict[tuple[str, str], dict[str, _BySeed]] = {}
    for job in jobs:
        figures = folder.figures(job)
        for score in job.training.scores:
            of_row = values.setdefault((job.way, score), {})
            of_job = _by_part(figures, score)
            for part, found in {**of_job, **_means(experiment, of_job)}.items():
                for metric, value in found.items():
                    if value is not None:
                        of_row.setdefault(part, {}).setdefault(metric, {})[job.seed] = value
    baseline = experiment.baseline
    score = experiment.baseline_score or experiment.trainings[baseline].scores[0]
    times = folder.engine_times
    parts = list(dict.fromkeys(part for of_row in values.values() for part in of_row))
    return Results(
        (baseline, score),
        list(dict.fromkeys(job.seed for job in jobs)),
        {part: _rows(part, values, (baseline, score), times) for part in parts},
        [str(job) for job in jobs if not folder.is_done(job)],
        list(times),
    )


def _by_part(figures: Mapping[str, Figures], score: str) -> dict[str, dict[str, float | None]]:
    found = {}
    for test, by_score in figures.items():
        conditions = by_score[score]
        # A single condition says what all say.
        several = len(conditions) > 2
        for condition, metrics in conditions.items():
            if condition == ALL:
                found[test] = metrics
            elif several:
                found[f'{test}, {condition}'] = metrics
    return found


def _means(
    experiment: Experiment, by_part: Mapping[str, Mapping[str, float | None]]
) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for names in experiment.means:
        if any(name not in by_part for name in names):
            continue
        of_metric = {m: [by_part[name][m] for name in names] for m in MEASURED}
        *others, last = names
        found[f'mean of {", ".join(others)} and {last}'] = {
            metric: sum(known) / len(known)
            if len(known := [v for v in of_tests if v is not None]) == len(names)
            else None
            for metric, of_tests in of_metric.items()
        }
    return found


def _rows(
    part: str,
    values: Mapping[tuple[str, str], Mapping[str, _BySeed]],
    baseline: tuple[str, str],
    times: Mapping[str, Mapping[str, Mapping[str, EngineTime]]],
) -> list[Row]:
    base = values.get(baseline, {}).get(part, {})
    rows = []
    for (way, score), by_part in values.items():
        if not (found := by_part.get(part)):
            continue
        cells = {}
        for metric in MEASURED:
            by_seed = found.get(metric, {})
            difference = (
                None
                if (way, score) == baseline
                else paired_difference(by_seed, base.get(metric, {}))
            )
            cells[metric] = Cell(by_seed, spread(by_seed), difference)
        engines = {
            precision: time
            for precision, by_way in times.items()
            if (time := by_way.get(way, {}).get(score)) is not None
        }
        rows.append(Row(way, score, cells, engines))
    return rows

# SPDX-License-Identifier: Apache-2.0
"""Figures of all seeds, put together and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import pytest

from multishift_perception.errors import MultishiftError
from multishift_training.comparison.config import Experiment
from multishift_training.comparison.folder import ComparisonFolder, EngineTime, Figures
from multishift_training.comparison.jobs import list_jobs
from multishift_training.comparison.report import to_json, write_report
from multishift_training.comparison.results import Results, gather_results
from multishift_training.comparison.table import markdown

Described = Callable[..., dict[str, Any]]


def figures(scores: list[str], ap: float, miou: float | None) -> Figures:
    metrics = {'AP': ap, 'FPR95': 1 - ap, 'mIoU': miou}
    return {score: {'day': metrics, 'all': metrics} for score in scores}


@pytest.fixture
def experiment(described: Described) -> Experiment:
    return Experiment.model_validate(described())


@pytest.fixture
def results(experiment: Experiment, tmp_path: Path) -> Results:
    """All of seed 0, and seed 1 but for the last way; one test tells no classes apart."""
    folder = ComparisonFolder(tmp_path / 'out', experiment)
    jobs = list_jobs(experiment, [0, 1])
    for place, job in enumerate(jobs[:-1]):
        ap = 0.1 * (place + 1)
        folder.add_figures(job, 'day', figures(job.training.scores, ap, ap))
        folder.add_figures(job, 'night', figures(job.training.scores, ap / 2, None))
    return gather_results(experiment, folder, jobs)


def test_rows_and_means(results: Results) -> None:
    assert list(results.parts) == ['day', 'night', 'mean of day and night']
    closed, first, both, energy = results.parts['day']
    assert [row.name for row in (closed, first, both, energy)] == [
        'closed world (energy)',
        'stage 1 (uncertainty)',
        'both stages (uncertainty)',
        'both stages (energy)',
    ]
    assert closed.cells['AP'].by_seed == pytest.approx({0: 0.1, 1: 0.4})
    assert closed.cells['AP'].difference.mean == pytest.approx(-0.1)
    assert first.cells['AP'].difference is None
    assert both.seeds == 1
    mean = results.parts['mean of day and night'][0]
    assert mean.cells['AP'].by_seed == pytest.approx({0: 0.075, 1: 0.3})
    assert mean.cells['mIoU'].spread is None
    assert results.missing == ['seed 1: both stages']


def test_table_says_what_is_missing(results: Results) -> None:
    head, rule, *lines = markdown(results).splitlines()
    assert head.startswith('| test | way | score | seeds | AP | FPR95 | mIoU | AP, difference |')
    assert set(map(len, (head.split('|'), rule.split('|'), lines[0].split('|')))) == {12}
    assert lines[0] == (
        '| day | closed world | energy | 2 | 25.0 (10.0 to 40.0) | 75.0 (60.0 to 90.0) | '
        '25.0 (10.0 to 40.0) | -10.0 [-10.0, -10.0] | +10.0 [+10.0, +10.0] | '
        '-10.0 [-10.0, -10.0] |'
    )
    assert '| both stages | energy | 1 | 30.0 (30.0 to 30.0) |' in lines[3]
    assert '| +10.0 |' in lines[3]
    assert lines[-1] == 'Missing: seed 1: both stages.'
    odd = replace(results, parts={'a|b\nc': results.parts['day']})
    assert markdown(odd).splitlines()[2].startswith(r'| a\|b c | closed world |')


def test_report_holds_all_it_shows(
    results: Results, experiment: Experiment, tmp_path: Path
) -> None:
    folder = ComparisonFolder(tmp_path / 'out', experiment)
    page = write_report(results, experiment, folder).read_text()
    assert page.count('<svg') == 6 and '<img' not in page
    assert 'seed 1: both stages' in page
    assert 'src="http' not in page and '<link' not in page
    content = json.loads((folder.path / 'metrics.json').read_text())
    assert content['missing'] == ['seed 1: both stages']
    closed = content['results']['day'][0]['metrics']['AP']
    assert closed['by_seed'] == pytest.approx({'0': 0.1, '1': 0.4})
    assert closed['difference']['seeds'] == 2
    assert (folder.path / 'table.md').read_text() == markdown(results) + '\n'


def test_times_of_engines_stand_beside_figures(
    results: Results, experiment: Experiment, tmp_path: Path
) -> None:
    folder = ComparisonFolder(tmp_path / 'out', experiment)
    times = {'both stages': {'energy': EngineTime(12.34, 11, 13, 22)}}
    folder.set_engine_times('fp32', {'closed world': {'energy': EngineTime(5, 5, 5, 5)}})
    folder.set_engine_times('int8', times)
    folder.set_engine_times('fp32', times)
    found = gather_results(experiment, folder, list_jobs(experiment, [0, 1]))
    head, _, *lines = markdown(found).splitlines()
    assert '| mIoU | fp32 engine, ms | fp32 engine, CPU ms | int8 engine, ms |' in head
    assert '| 12.3 (11.0 to 13.0) | 22.0 | 12.3 (11.0 to 13.0) | 22.0 |' in lines[3]
    assert '| – | – | – | – |' in lines[0]
    assert 'Engines: of OpenVINO' in lines[-2]
    content = json.loads(to_json(found, experiment))
    row = content['results']['day'][3]
    assert row['engines']['int8'] == {
        'milliseconds': 12.34, 'least': 11, 'largest': 13, 'cpu_milliseconds': 22,
    }  # fmt: skip
    (tmp_path / 'out' / 'engines.json').write_text('[]')
    with pytest.raises(MultishiftError, match=r'engines\.json is damaged'):
        _ = folder.engine_times

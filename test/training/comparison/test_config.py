# SPDX-License-Identifier: Apache-2.0
"""What an experiment may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from multishift_perception.errors import MultishiftError
from multishift_training.comparison.config import read_experiment
from multishift_training.comparison.folder import ComparisonFolder
from multishift_training.comparison.jobs import list_jobs

Described = Callable[..., dict[str, Any]]


def test_jobs_are_listed_seed_by_seed(described: Described, tmp_path: Path) -> None:
    file = tmp_path / 'experiment.yaml'
    file.write_text(yaml.safe_dump(described(seeds=[3, 1]), sort_keys=False))
    jobs = list_jobs(found := read_experiment(file), found.seeds)
    assert list(map(str, jobs)) == [
        'seed 3: closed world',
        'seed 3: stage 1',
        'seed 3: both stages',
        'seed 1: closed world',
        'seed 1: stage 1',
        'seed 1: both stages',
    ]
    assert [job.starts_from for job in jobs[:3]] == [None, 'closed world', 'stage 1']


def test_a_way_may_start_from_weights_of_its_own(described: Described, tmp_path: Path) -> None:
    ways = described()['ways']
    file = tmp_path / 'experiment.yaml'
    own = {**ways['stage 1'], 'weights': 'imagenet'}
    file.write_text(yaml.safe_dump(described(ways={**ways, 'stage 1': own}), sort_keys=False))
    experiment = read_experiment(file)
    folder = ComparisonFolder(tmp_path / 'out', experiment)
    _, first, second = list_jobs(experiment, [0])
    assert first.starts_from is None and second.starts_from == 'stage 1'
    assert folder.config(first).weights == 'imagenet'


def test_faults_are_told_in_one_line(described: Described, tmp_path: Path) -> None:
    whole = described()
    ways = whole['ways']
    faults: dict[str, dict[str, Any]] = {
        'baseline: stage 2 is no way (did you mean stage 1?)': {'baseline': 'stage 2'},
        'baseline_score: energy is no score of stage 1': {'baseline_score': 'energy'},
        'means: day, day: name each test once': {'means': [['day', 'day']]},
        'means: dusk is no test': {'means': [['day', 'dusk']]},
        'starts_from: both stages is no way above it': {
            'ways': {**ways, 'stage 1': {**ways['stage 1'], 'starts_from': 'both stages'}}
        },
        "'stage_1' and 'stage 1' would share a folder": {
            'ways': {**ways, 'stage_1': ways['stage 1']}
        },
        'both stages: weights and starts_from: leave out one': {
            'ways': {**ways, 'both stages': {**ways['both stages'], 'weights': 'imagenet'}}
        },
        "ways: '+' names no folder": {'ways': {'+': ways['stage 1']}, 'baseline': '+'},
        "ways: 'wwwwwwwwwwwwwwwwwwww'... is too long for a folder": {
            'ways': {300 * 'w': ways['stage 1']}
        },
        'seeds (line 1) is 9999999999, expected a whole number from 1 to 1000': {
            'seeds': 9_999_999_999
        },
        'seed 1 stands twice': {'seeds': [1, 0, 1]},
        'closed world: seed: set `seeds` of the experiment': {
            'closed_world': {**whole['closed_world'], 'seed': 1}
        },
        'generated partners want `augmentation`': {
            'ways': {
                'stage 1': {
                    **ways['stage 1'],
                    'data': {**ways['stage 1']['data'], 'partners': {'kind': 'generated'}},
                }
            }
        },
        'unknown score': {'ways': {'stage 1': {**ways['stage 1'], 'scores': ['enrgy']}}},
        'ways: there is none: describe a training to compare': {
            'ways': {},
            'baseline': 'closed world',
        },
        "'day, dry' is how parts of tests are called": {
            'tests': {'day, dry': whole['tests']['day']},
            'means': [],
        },
    }
    for fault, changes in faults.items():
        file = tmp_path / 'experiment.yaml'
        file.write_text(yaml.safe_dump(described(**changes), sort_keys=False))
        with pytest.raises(MultishiftError) as error:
            read_experiment(file)
        assert fault in str(error.value)
        assert '\n' not in str(error.value), fault

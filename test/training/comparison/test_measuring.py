# SPDX-License-Identifier: Apache-2.0
"""What is measured of a run beside its head: fitted scores, and what its engines take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import os
from pathlib import Path
from shutil import copyfile, rmtree
from typing import Any

import pytest
import torch

from multishift_perception.engine import EMBEDDED_BUNDLE, MANIFEST
from multishift_perception.engine.timing import Candidate, Timing
from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints.trained import save
from multishift_training.comparison import engines
from multishift_training.comparison.config import Experiment
from multishift_training.comparison.folder import ComparisonFolder
from multishift_training.comparison.jobs import list_jobs
from multishift_training.comparison.measuring import measure
from multishift_training.datasets import ValidationData
from multishift_training.datasets.descriptions import read_datasets
from multishift_training.models import create

Described = Callable[..., dict[str, Any]]


@pytest.fixture
def experiment(described: Described) -> Experiment:
    whole = described(seeds=1)
    whole['closed_world']['scores'] = ['energy', 'knn']
    whole['ways']['stage 1']['scores'] = ['uncertainty', 'mahalanobis']
    return Experiment.model_validate(whole)


@pytest.fixture
def folder(experiment: Experiment, tmp_path: Path) -> ComparisonFolder:
    return ComparisonFolder(tmp_path / 'out', experiment)


@pytest.mark.usefixtures('one_thread')
def test_fitted_scores_see_what_was_learned_from(
    experiment: Experiment, folder: ComparisonFolder
) -> None:
    job = list_jobs(experiment, [0])[0]
    torch.manual_seed(0)
    save(folder.weights(job), create('deeplabv3plus_compact'), folder.config(job), {})
    tests = {'day': experiment.tests['day']}
    options: dict[str, Any] = {'root': Path(), 'cache': folder.cache, 'data': job.training.data}
    [(name, figures)] = measure(folder.weights(job), tests, job.training.scores, **options)
    assert name == 'day' and set(figures) == {'energy', 'knn'}
    kept = folder.run(job) / 'cache' / 'fitted' / 'knn.safetensors'
    written = kept.stat().st_mtime_ns
    again = dict(measure(folder.weights(job), tests, ['knn'], **options))
    assert again['day']['knn'] == figures['knn']
    assert kept.stat().st_mtime_ns == written


class Built:
    """Stands for the build of engines: leaves a manifest, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.fitted_on: list[ValidationData] = []
        self.refused: tuple[str, ...] = ()

    def __call__(
        self, weights: Path, out: Path, *, fit: Path | None, score: str, **options: Any
    ) -> None:
        self.asked.append((weights.parent.name, score, options['precision']))
        assert options['targets'] == ['openvino']
        self.fitted_on += [] if fit is None else read_datasets([fit]).values()
        if score in self.refused:
            raise MultishiftError('rounded too much')
        out.mkdir(exist_ok=True)
        copyfile(EMBEDDED_BUNDLE / MANIFEST, out / MANIFEST)


def test_engines_of_what_is_done_are_built_once_and_timed_together(
    experiment: Experiment,
    folder: ComparisonFolder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    jobs = list_jobs(experiment, [0])
    options: dict[str, Any] = {'root': Path(), 'precision': 'fp32', 'seconds': 1.0}
    with pytest.raises(MultishiftError, match='no run is done yet'):
        engines.time_engines(folder, jobs, **options)
    for job in jobs[:2]:
        folder.run(job).mkdir(parents=True)
        folder.weights(job).touch()
        for test in experiment.tests:
            folder.add_figures(job, test, {score: {} for score in job.training.scores})
    called: list[Sequence[Candidate]] = []

    def measured(candidates: Sequence[Candidate], *, seconds: float) -> list[Timing]:
        called.append(candidates)
        choice: Any = None
        rounds = [[0.002, 0.001, 0.003], [0.004]]
        return [Timing(c.bundle, choice, 1, rounds=rounds, cpu=[0.006, 0.006]) for c in candidates]

    built = Built()
    monkeypatch.setattr(engines, 'measure_engines', measured)
    monkeypatch.setattr(engines, 'build', built)
    engines.time_engines(folder, jobs, **options)
    # Of `knn` no engine can be made.
    assert built.asked == [
        ('closed_world', 'energy', 'fp32'),
        ('stage_1', 'uncertainty', 'fp32'),
        ('stage_1', 'mahalanobis', 'fp32'),
    ]
    assert [part.images for part in built.fitted_on] == [jobs[1].training.data.images]
    names = [f'{c.bundle.parent.name}/{c.bundle.name} {c.backend}' for c in called[0]]
    assert names[::2] == [
        'closed_world/energy_fp32 openvino', 'stage_1/mahalanobis_fp32 openvino',
    ]  # fmt: skip
    time = folder.engine_times['fp32']['stage 1']['mahalanobis']
    assert (time.milliseconds, time.least, time.largest) == pytest.approx((3, 2, 4))
    assert time.cpu_milliseconds == pytest.approx(3)
    engines.time_engines(folder, jobs, **options)
    assert len(built.asked) == 3 and called[1] == called[0]
    os.utime(folder.weights(jobs[1]), (2**33, 2**33))  # trained again
    engines.time_engines(folder, jobs, **options)
    assert len(built.asked) == 5
    built.refused = ('uncertainty',)
    engines.time_engines(folder, jobs, **{**options, 'precision': 'int8'})
    assert list(folder.engine_times['int8']['stage 1']) == ['mahalanobis']
    assert 'engine of seed 0: stage 1 (uncertainty): rounded too much' in caplog.text
    built.refused = ('uncertainty', 'mahalanobis', 'energy')
    rmtree(folder.path / 'engines')
    with pytest.raises(MultishiftError, match=r'closed world \(energy\): rounded too much'):
        engines.time_engines(folder, jobs, **options)

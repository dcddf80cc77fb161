# SPDX-License-Identifier: Apache-2.0
"""`multishift compare`: what is trained from what, resumed, shared out and refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import json
import math
import os
from pathlib import Path
import shutil
from typing import Any
import weakref

from click.testing import CliRunner
import pytest
from torch import nn
import yaml

from multishift_perception.cli.main import multishift
from multishift_perception.errors import MultishiftError
from multishift_perception.images.decoding import decode_file
from multishift_training.comparison import run
from multishift_training.comparison.config import Experiment, read_experiment
from multishift_training.comparison.folder import ComparisonFolder, Figures
from multishift_training.comparison.jobs import list_jobs
from multishift_training.datasets import TrainingData
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.devices import leave_torchrun
from multishift_training.loop.run_folder import RunFolder, State
from multishift_training.loop.watch import NotFiniteError

Described = Callable[..., dict[str, Any]]


def invoke(file: Path, *arguments: object) -> str:
    done = CliRunner().invoke(
        multishift, ['compare', str(file), *map(str, arguments)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.usefixtures('one_thread')
def test_two_seeds_by_the_command(described: Described, tmp_path: Path) -> None:
    file, out = tmp_path / 'experiment.yaml', tmp_path / 'out'
    file.write_text(yaml.safe_dump(described(), sort_keys=False))
    shown = invoke(file, '--out', out)
    assert 'Missing' not in shown
    assert '| mean of day and night | both stages | energy | 2 |' in shown
    content = json.loads((out / 'metrics.json').read_text())
    assert content['seeds'] == [0, 1]
    for seed in (0, 1):
        folder = out / f'seed_{seed}'
        starts = {
            name: yaml.safe_load((folder / name / 'config.yaml').read_text())['weights']
            for name in ('closed_world', 'stage_1', 'both_stages')
        }
        assert starts == {
            'closed_world': None,
            'stage_1': str(folder / 'closed_world' / 'best.safetensors'),
            'both_stages': str(folder / 'stage_1' / 'best.safetensors'),
        }
    first, second = (
        (out / f'seed_{seed}/closed_world/best.safetensors').read_bytes() for seed in (0, 1)
    )
    assert first != second
    assert invoke(file, '--out', out, '--table') == shown.rpartition('\n\n')[0] + '\n'
    assert invoke(file, '--out', out, '--pictures', 3) == f'{out / "report.html"}\n'
    pictures = ComparisonFolder(out, read_experiment(file)).pictures
    assert {test: len(images) for test, images in pictures.items()} == {'day': 1, 'night': 1}
    (seen,) = pictures['night']
    assert seen.condition == 'night'
    assert list(seen.ways) == ['closed world', 'stage 1', 'both stages']
    shapes = {decode_file(data).shape for data in (seen.image, seen.truth, *seen.ways.values())}
    assert shapes == {(64, 96, 3)}
    assert len({*seen.ways.values()}) > 1
    invoke(file, '--out', out)
    page = (out / 'report.html').read_text()
    assert 'night, side by side' in page and page.count('<img') == 2 * (2 + 3)


def test_pictures_are_of_what_is_done(described: Described, tmp_path: Path) -> None:
    experiment = Experiment.model_validate(described())
    with pytest.raises(MultishiftError, match='no run is done yet: leave out --pictures'):
        run.add_pictures(experiment, tmp_path / 'out', root=Path(), seeds=[0], count=1)


class Trainings:
    """Stands for training and measuring; remembers the folders of runs."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.measured: list[str] = []
        self.stopped_at = ''
        self.diverging = ''
        self.diverged = 0
        self.networks: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def train(self, config: TrainConfig, path: Path, *, root: Path, seconds: float) -> Path | None:
        name = f'{path.parent.name}/{path.name}'
        if name == self.stopped_at:
            self.stopped_at = ''
            raise KeyboardInterrupt
        assert not self.networks, 'the network of a run that is over is kept'
        network = nn.Identity()
        self.networks.add(network)
        if name == self.diverging:
            self.diverged += 1
            raise NotFiniteError('the loss is not finite')
        self.done.append(name)
        path.mkdir(parents=True, exist_ok=True)
        (path / 'best.safetensors').touch()
        return path / 'best.safetensors'

    def measure(
        self,
        weights: Path,
        tests: Mapping[str, object],
        scores: Sequence[str],
        *,
        data: TrainingData,
        root: Path,
        cache: Path,
    ) -> Iterator[tuple[str, Figures]]:
        for test in tests:
            self.measured.append(f'{weights.parent.name} {test}')
            metrics: dict[str, float | None] = {'AP': 0.5, 'FPR95': 0.5, 'mIoU': 0.5}
            yield test, {score: {'all': metrics} for score in scores}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(run, 'train', made.train)
    monkeypatch.setattr(run, 'measure', made.measure)
    monkeypatch.setattr(run, 'write_report', lambda *arguments: None)  # draws for seconds
    return made


def compare(described: dict[str, Any], out: Path, **options: Any) -> list[str]:
    """Compare; return what is missing."""
    experiment = Experiment.model_validate(described)
    return list(run.compare(experiment, out, root=Path(), **options).missing)


ALL = [f'seed_{s}/{w}' for s in (0, 1) for w in ('closed_world', 'stage_1', 'both_stages')]


def test_goes_on_where_it_was(described: Described, trainings: Trainings, tmp_path: Path) -> None:
    trainings.stopped_at = 'seed_0/both_stages'
    with pytest.raises(KeyboardInterrupt):
        compare(described(), tmp_path)
    assert trainings.done == ALL[:2]
    assert compare(described(), tmp_path) == []
    assert trainings.done == ALL
    assert compare(described(), tmp_path) == []
    assert trainings.done == ALL


def test_what_diverges_is_told_once_all_others_are_done(
    described: Described, trainings: Trainings, tmp_path: Path
) -> None:
    trainings.diverging = 'seed_0/stage_1'
    with pytest.raises(MultishiftError) as raised:
        compare(described(), tmp_path)
    assert str(raised.value) == (
        'seed 0: stage 1: the loss is not finite\n'
        f'what the others reached is in {tmp_path / "table.md"}'
    )
    # Nor what starts from it.
    assert trainings.done == [ALL[0], *ALL[3:]]
    trainings.diverging = ''
    assert compare(described(), tmp_path) == []
    assert trainings.done == [ALL[0], *ALL[3:], *ALL[1:3]]


def test_what_diverges_is_not_told_while_others_are_left(
    described: Described, trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings.diverging = 'seed_0/closed_world'
    monkeypatch.setattr(run, 'monotonic', lambda: trainings.diverged)  # then the time is over
    assert len(compare(described(), tmp_path, seconds=0.5)) == len(ALL)


def test_seeds_and_ways_and_tests_may_be_added(
    described: Described, trainings: Trainings, tmp_path: Path
) -> None:
    compare(described(), tmp_path, seeds=[1])
    assert trainings.done == ALL[3:]
    whole = described()
    whole['ways']['again'] = whole['ways']['stage 1']
    whole['tests']['dusk'] = whole['tests']['day']
    trainings.done.clear()
    trainings.measured.clear()
    assert compare(whole, tmp_path, seeds=[1]) == []
    assert trainings.done == ['seed_1/again']
    assert trainings.measured[:3] == ['closed_world dusk', 'stage_1 dusk', 'both_stages dusk']


def test_weights_that_somebody_removed_are_missed_in_one_line(
    described: Described, trainings: Trainings, tmp_path: Path
) -> None:
    compare(described(), tmp_path)
    run_of_first, record = tmp_path / 'seed_0/stage_1', tmp_path / 'seed_0/stage_1.json'
    mend = f'{run_of_first}/best.safetensors is missing: delete {run_of_first} and {record} to'
    shutil.rmtree(run_of_first)
    assert compare(described(), tmp_path) == []  # nothing asks for them
    (tmp_path / 'seed_0/both_stages.json').unlink()
    with pytest.raises(MultishiftError, match=f'both stages: {mend}'):  # starts from them
        compare(described(), tmp_path)
    whole = described()
    whole['tests']['dusk'] = whole['tests']['day']
    with pytest.raises(MultishiftError, match=f'stage 1: {mend}'):  # to be measured on dusk
        compare(whole, tmp_path)
    assert trainings.done == ALL
    record.unlink()
    assert compare(whole, tmp_path) == []
    assert trainings.done == [*ALL, *ALL[1:3]]


@pytest.mark.parametrize(
    'change',
    [
        lambda record: '{',
        lambda record: 3000 * '[',
        lambda record: {**record, 'training': []},
        lambda record: {**record, 'tests': {'day': {'description': {}, 'figures': 3}}},
        lambda record: record['tests']['day']['figures']['energy']['all'].pop('AP') and record,
        lambda record: record['tests']['day']['figures']['energy']['all'].update(AP='x') or record,
        lambda record: (
            record['tests']['day']['figures']['energy']['all'].update(AP=math.nan) or record
        ),
    ],
)
def test_record_that_is_damaged_is_refused_in_one_line(
    described: Described, trainings: Trainings, tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    compare(described(), tmp_path, seeds=[0])
    path = tmp_path / 'seed_0/closed_world.json'
    changed = change(json.loads(path.read_text()))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(
        MultishiftError, match=f'^{path} is damaged: delete it to have it measured'
    ):
        compare(described(), tmp_path, seeds=[0])


def test_time_limit_leaves_the_rest(
    described: Described,
    trainings: Trainings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([0.0, 1.0, 1.0, 100.0, 100.0])  # the start, two looks before a job, one after
    monkeypatch.setattr(run, 'monotonic', lambda: next(times, 100.0))
    missing = compare(described(), tmp_path, seconds=60)
    assert trainings.done == ALL[:1]
    assert len(missing) == 5


@pytest.mark.parametrize(
    ('change', 'fault'),
    [
        (
            lambda d: d['ways']['stage 1']['stages'][0].update(epochs=7),
            'seed 0: stage 1 was trained by another configuration (its stages changed)',
        ),
        (
            lambda d: d['ways']['both stages'].pop('starts_from'),
            'seed 0: both stages was trained by another configuration (its starts_from changed)',
        ),
        (
            lambda d: d['tests']['day']['images'].update(seed=9),
            'seed 0: closed world was measured on another test day',
        ),
    ],
)
def test_what_changed_is_refused_in_one_line(
    described: Described,
    trainings: Trainings,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    fault: str,
) -> None:
    compare(described(), tmp_path)
    changed = json.loads(json.dumps(described()))
    change(changed)
    with pytest.raises(MultishiftError) as error:
        compare(changed, tmp_path)
    assert fault in str(error.value)
    assert '\n' not in str(error.value)
    assert trainings.done == ALL


def test_run_in_progress_that_changed_is_refused(
    described: Described, trainings: Trainings, tmp_path: Path
) -> None:
    experiment = Experiment.model_validate(described())
    folder = ComparisonFolder(tmp_path, experiment)
    folder.begin()
    job = list_jobs(experiment, [0])[0]
    folder.run(job).mkdir(parents=True)
    changed = folder.config(job).model_copy(update={'batch_size': 7})
    (folder.run(job) / 'config.yaml').write_text(yaml.safe_dump(changed.model_dump(mode='json')))
    with pytest.raises(MultishiftError, match=r'seed 0: closed world .* \(its batch_size changed'):
        compare(described(), tmp_path)


def test_folder_that_is_moved_goes_on(
    described: Described, trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = described(augmentation='config/augmentation/sample_drive.yaml')
    way = whole['ways']['stage 1']
    way['data'] = {**way['data'], 'partners': {'kind': 'generated'}}
    monkeypatch.setattr(run, 'augment', lambda config, path, root: None)
    trainings.stopped_at = 'seed_0/stage_1'

    def train(config: TrainConfig, path: Path, **options: Any) -> Path | None:
        path.mkdir(parents=True, exist_ok=True)
        RunFolder(path, config, writes=True).save(State())
        return trainings.train(config, path, **options)

    monkeypatch.setattr(run, 'train', train)
    with pytest.raises(KeyboardInterrupt):
        compare(whole, tmp_path / 'here')
    moved = (tmp_path / 'here').rename(tmp_path / 'there')
    assert str(tmp_path / 'here') in (moved / 'seed_0/stage_1/config.yaml').read_text()
    assert compare(whole, moved) == []
    assert trainings.done == ALL
    # What starts from other weights is another run wherever it lies.
    (moved / 'seed_0/both_stages.json').unlink()
    whole['ways']['both stages'].pop('starts_from')
    with pytest.raises(MultishiftError, match=r'both stages was .* \(its weights changed\)'):
        compare(whole, moved)


def test_jobs_of_other_processes_are_left_to_them(
    described: Described,
    trainings: Trainings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = Experiment.model_validate(described())
    other = ComparisonFolder(tmp_path, experiment)
    other.begin()
    jobs = list_jobs(experiment, [0, 1])
    claim = other.claimed(jobs[1])
    assert claim.__enter__()

    def end_of_the_other(seconds: float) -> None:
        claim.__exit__(None, None, None)

    monkeypatch.setattr(run, 'sleep', end_of_the_other)
    assert compare(described(), tmp_path) == []
    # What starts from the one that is claimed waits, the next seed does not.
    assert trainings.done == [ALL[0], *ALL[3:], *ALL[1:3]]


def test_partners_are_generated_once_and_by_one_process(
    described: Described,
    trainings: Trainings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = described(augmentation='config/augmentation/sample_drive.yaml')
    way = whole['ways']['stage 1']
    way['data'] = {**way['data'], 'partners': {'kind': 'generated'}}
    generated: list[Path] = []
    monkeypatch.setattr(run, 'augment', lambda config, path, root: generated.append(path))
    assert compare(whole, tmp_path) == []
    assert compare(whole, tmp_path) == []
    assert generated == [tmp_path / 'generated']
    assert trainings.done == ALL


def test_table_touches_nothing_and_shows_nothing_of_another_configuration(
    described: Described, trainings: Trainings, tmp_path: Path
) -> None:
    file, out = tmp_path / 'experiment.yaml', tmp_path / 'out'
    out.mkdir()
    file.write_text(yaml.safe_dump(described(), sort_keys=False))
    for option in (['--table'], ['--pictures', 1]):
        with pytest.raises(MultishiftError, match=f'holds no experiment: leave out {option[0]}'):
            invoke(file, '--out', out, *option)
    assert not list(out.iterdir())
    compare(described(), out, seeds=[0])
    shutil.rmtree(out / '.locks')
    assert 'Missing: seed 1: closed world;' in invoke(file, '--out', out, '--table')
    assert not (out / '.locks').exists()
    other = {'day': described()['tests']['night']}
    file.write_text(yaml.safe_dump(described(tests=other, means=[]), sort_keys=False))
    with pytest.raises(MultishiftError, match='measured on another test day'):
        invoke(file, '--out', out, '--table')


def test_folder_of_something_else_is_refused(described: Described, tmp_path: Path) -> None:
    (tmp_path / 'thesis.tex').touch()
    with pytest.raises(
        MultishiftError, match=r'thesis\.tex: only a report of `multishift compare`'
    ):
        compare(described(), tmp_path)


def test_faults_say_which_job(
    described: Described, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*arguments: object, **options: object) -> Path:
        raise MultishiftError('no such weights')

    monkeypatch.setattr(run, 'train', train)
    with pytest.raises(MultishiftError, match='seed 0: closed world: no such weights'):
        compare(described(), tmp_path)


def test_processes_of_torchrun_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'GROUP_RANK'):
        monkeypatch.setenv(name, '1')
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,6')
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    leave_torchrun()
    assert not {'RANK', 'WORLD_SIZE', 'TORCHELASTIC_RUN_ID', 'GROUP_RANK'} & os.environ.keys()
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '6'

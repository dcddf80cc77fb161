# SPDX-License-Identifier: Apache-2.0
"""The folder of an experiment: which job is whose, and what came of those that are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError
import yaml

from multishift_perception.destinations import check_folder, report_of
from multishift_perception.errors import MultishiftError
from multishift_perception.files import METRICS, claimed, write_bytes, write_text
from multishift_training.augmentation.config import AugmentConfig
from multishift_training.comparison.config import Experiment, Test, folder_name
from multishift_training.comparison.jobs import Job
from multishift_training.loop.config import BEST, CONFIG, TrainConfig, read_config

COMPARE = 'multishift compare'
REPORT = report_of(COMPARE)
# What is measured on a test, by score and condition.
MEASURED = ('AP', 'FPR95', 'mIoU')
# By score and condition: metrics, fractions 0..1; None where one is undefined.
Figures = dict[str, dict[str, dict[str, float | None]]]


@dataclass(frozen=True)
class EngineTime:
    """What a call of an engine takes, of one frame.

    Attributes:
        milliseconds: median over rounds of the median of each, by the wall's clock.
        least: of the rounds' medians.
        largest: of the rounds' medians.
        cpu_milliseconds: that all threads compute; other processes hardly change it.
    """

    milliseconds: float
    least: float
    largest: float
    cpu_milliseconds: float


class Seen(BaseModel):
    """An image of a test as several ways see it; all pictures are JPEG bytes.

    Attributes:
        name: of the image.
        condition: weather or light; empty where unknown.
        image: as it is.
        truth: with its true classes and novel objects.
        ways: with the most likely classes, and what is taken for novel, by way.
    """

    model_config = ConfigDict(ser_json_bytes='base64', val_json_bytes='base64')

    name: str
    condition: str
    image: bytes
    truth: bytes
    ways: dict[str, bytes]


def _whole(figures: Figures) -> Figures:
    for by_condition in figures.values():
        if any(sorted(metrics) != sorted(MEASURED) for metrics in by_condition.values()):
            raise ValueError('metrics are missing')
    return figures


class _OnTest(BaseModel):
    """What is measured of a job on a test."""

    model_config = ConfigDict(allow_inf_nan=False)

    description: dict[str, Any]
    figures: Annotated[Figures, AfterValidator(_whole)]


class _Record(BaseModel):
    """What is measured of a job so far, by test, and how it was trained."""

    training: dict[str, Any]
    tests: dict[str, _OnTest]


_ENGINE_TIMES = TypeAdapter(dict[str, dict[str, dict[str, EngineTime]]])
_PICTURES = TypeAdapter(dict[str, list[Seen]])
T = TypeVar('T')


class ComparisonFolder:
    """``seed_N/WAY/`` with the runs, ``seed_N/WAY.json`` with their figures, and the report.

    Where engines were timed, ``engines/`` holds them, and ``engines.json`` what they take; where
    pictures were drawn, ``pictures.json`` has them.

    Any number of processes, on this machine or on others that share the folder, may be at work in
    it: each job is whose lock it has.

    Attributes:
        path: the folder.
        cache: of rendered frames of the tests.
        generated: of generated partners.
    """

    def __init__(self, path: Path, experiment: Experiment) -> None:
        """Look at a folder; nothing of it is touched yet."""
        self.path = path
        self.cache = path / 'cache'
        self.generated = path.resolve() / 'generated'
        self._locks = path / '.locks'
        self._engine_times = path / 'engines.json'
        self._pictures = path / 'pictures.json'
        self._tests = {
            name: test.model_dump(mode='json') for name, test in experiment.tests.items()
        }

    def begin(self) -> None:
        """Open the folder, new or to be gone on with.

        Raises:
            MultishiftError: something else is in it, or it cannot be written.
        """
        check_folder(self.path, REPORT, option='--out', force=True, scraps=('cache',))
        self._locks.mkdir(parents=True, exist_ok=True)
        if not (self.path / METRICS).exists():  # whose folder it is, from now on
            write_text(self.path / METRICS, json.dumps({'command': COMPARE}) + '\n')

    def run(self, job: Job) -> Path:
        """Return the folder of a job's training."""
        return self.path / f'seed_{job.seed}' / folder_name(job.way)

    def start(self, job: Job) -> Path | None:
        """Return the weights of another job that a job starts from, if it does."""
        if job.starts_from is None:
            return None
        beside = self.run(job).with_name(folder_name(job.starts_from))
        return beside.resolve() / BEST

    def weights(self, job: Job) -> Path:
        """Return the best weights of a job."""
        return self.run(job) / BEST

    def engine(self, job: Job, score: str, precision: str) -> Path:
        """Return the engine bundle of a job whose score is the one of that name."""
        return self.path / 'engines' / folder_name(job.way) / f'{score}_{precision}'

    def config(self, job: Job) -> TrainConfig:
        """Return the configuration of a job's training."""
        return job.config(start=self.start(job), generated=self.generated)

    def figures(self, job: Job) -> dict[str, Figures]:
        """Return what is measured of a job so far, by test."""
        tests: dict[str, Any] = self._record(job).get('tests', {})
        return {
            name: {score: tests[name]['figures'][score] for score in job.training.scores}
            for name in self._tests
            if name in tests and set(job.training.scores) <= tests[name]['figures'].keys()
        }

    def add_figures(self, job: Job, test: str, figures: Figures) -> None:
        """Record what is measured of a job on a test."""
        record = self._record(job) or {'training': job.described(), 'tests': {}}
        record['tests'][test] = {'description': self._tests[test], 'figures': figures}
        write_text(self._record_path(job), json.dumps(record, indent=1) + '\n')

    def is_trained(self, job: Job) -> bool:
        """Return whether a job is known to be trained: something of it is measured."""
        return bool(self._record(job))

    def check_weights(self, job: Job) -> None:
        """See that the weights are there that a job starts from or, once trained, has left.

        Raises:
            MultishiftError: somebody removed them.
        """
        wanted = self.weights(job) if self.is_trained(job) else self.start(job)
        if wanted is not None and not wanted.exists():
            run = self.run(job).with_name(wanted.parent.name)
            raise MultishiftError(
                f'{run / BEST} is missing: delete {run} and {run.with_suffix(".json")} to have it '
                'trained anew'
            )

    def is_done(self, job: Job) -> bool:
        """Return whether a job is trained, and measured on every test."""
        return len(self.figures(job)) == len(self._tests)

    def first_done(self, jobs: Sequence[Job]) -> list[Job]:
        """Return, of each way among some jobs, the first that is done."""
        first: dict[str, Job] = {}
        for job in jobs:
            if self.is_done(job):
                first.setdefault(job.way, job)
        return list(first.values())

    @property
    def engine_times(self) -> dict[str, dict[str, dict[str, EngineTime]]]:
        """What engines take, by precision, way and score; empty where none was timed."""
        return _read_json(self._engine_times, _ENGINE_TIMES, '--time-engines')

    def set_engine_times(self, precision: str, times: dict[str, dict[str, EngineTime]]) -> None:
        """Record what engines of a precision take, by way and score."""
        kept = {**self.engine_times, precision: times}
        write_bytes(self._engine_times, _ENGINE_TIMES.dump_json(kept, indent=1) + b'\n')

    @property
    def pictures(self) -> dict[str, list[Seen]]:
        """Images as the ways see them, by test; empty where none was drawn."""
        return _read_json(self._pictures, _PICTURES, '--pictures')

    def set_pictures(self, pictures: dict[str, list[Seen]]) -> None:
        """Record images as the ways see them, by test."""
        write_bytes(self._pictures, _PICTURES.dump_json(pictures))

    def check(self, jobs: Sequence[Job], augmentation: AugmentConfig | None) -> None:
        """See that what is done of some jobs was done by the same descriptions.

        Raises:
            MultishiftError: if not.
        """
        for job in jobs:
            record = self._record(job)
            if record:
                self._compare(job, job.described(), _redescribed(job, record['training']))
            elif (kept := self._kept(job)) is not None:
                own = self.config(job).model_dump(mode='json')
                self._compare(job, own, self._as_if_here(job, kept))
            for name, test in record.get('tests', {}).items():
                if name in self._tests and _filled(Test, test['description']) != self._tests[name]:
                    raise self._changed(f'{job} was measured on another test {name}')
        mark = self._generated_mark
        if augmentation is not None and mark.exists() and mark.read_text() != _text(augmentation):
            raise self._changed('the partners were generated by another augmentation')

    def take_up(self, job: Job) -> None:
        """Let a run that was begun where the folder lay before go on where it lies now."""
        kept = self._kept(job)
        if kept is not None and (here := self._as_if_here(job, kept)) != kept:
            write_text(self._kept_path(job), yaml.safe_dump(here, sort_keys=False))

    def _kept(self, job: Job) -> dict[str, Any] | None:
        """Return the configuration of a run that was begun, JSON-ready."""
        path = self._kept_path(job)
        return read_config(path).model_dump(mode='json') if path.exists() else None

    def _kept_path(self, job: Job) -> Path:
        return self.run(job) / CONFIG

    def _as_if_here(self, job: Job, kept: dict[str, Any]) -> dict[str, Any]:
        """Return a kept configuration whose paths into the folder are those of where it lies.

        A run has them absolute, since others start at the data root. What lies in the folder is
        told by where in it that is.
        """
        found, partners = dict(kept), kept['data']['partners']
        if start := self.start(job):
            found['weights'] = self._moved(kept['weights'], start)
        if job.is_generated and partners:
            root = self._moved(partners.get('root'), self.generated)
            found['data'] = {**kept['data'], 'partners': {**partners, 'root': root}}
        return found

    def _moved(self, kept: str | None, path: Path) -> str | None:
        """Return the path of something in the folder if a kept one is of the same; else that."""
        place = path.relative_to(self.path.resolve()).parts
        is_same = kept is not None and Path(kept).parts[-len(place) :] == place
        return str(path) if is_same else kept

    def _compare(self, job: Job, own: dict[str, Any], kept: dict[str, Any]) -> None:
        other = sorted(k for k in own.keys() | kept.keys() if own.get(k) != kept.get(k))
        if other:
            raise self._changed(
                f'{job} was trained by another configuration (its {", ".join(other)} changed)'
            )

    def _changed(self, what: str) -> MultishiftError:
        return MultishiftError(f'{self.path}: {what}: give another folder with --out')

    @property
    def has_generated(self) -> bool:
        """Whether partners are generated."""
        return self._generated_mark.exists()

    def mark_generated(self, augmentation: AugmentConfig) -> None:
        """Record that partners are generated."""
        write_text(self._generated_mark, _text(augmentation))

    @contextmanager
    def claimed(self, job: Job | None) -> Iterator[bool]:
        """Yield whether a job, or the generation of partners, is this process's for the block."""
        name = 'generated' if job is None else f'{job.seed}_{folder_name(job.way)}'
        with claimed(self._locks / name) as own:
            yield own

    @property
    def _generated_mark(self) -> Path:
        return self.path / 'generated.json'

    def _record_path(self, job: Job) -> Path:
        return self.run(job).with_suffix('.json')

    def _record(self, job: Job) -> dict[str, Any]:
        path = self._record_path(job)
        try:
            return _Record.model_validate_json(path.read_bytes()).model_dump()
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError):
            raise MultishiftError(
                f'{path} is damaged: delete it to have it measured anew'
            ) from None


def _read_json(path: Path, kind: TypeAdapter[dict[str, T]], option: str) -> dict[str, T]:
    """Return what an option of the command has written; nothing where it has not yet.

    Raises:
        MultishiftError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        return kind.validate_json(path.read_bytes())
    except ValidationError:
        raise MultishiftError(f'{path} is damaged: delete it and give {option} again') from None


def _redescribed(job: Job, kept: dict[str, Any]) -> dict[str, Any]:
    """Return a kept description with what an earlier version did not have yet."""
    own = {key: value for key, value in kept.items() if key not in ('seed', 'scores')}
    return {**_filled(type(job.training), own), 'seed': kept.get('seed')}


def _filled(kind: type[BaseModel], kept: dict[str, Any]) -> dict[str, Any]:
    """Return a kept description with defaults for the keys that were added since."""
    try:
        found = kind.model_validate(kept)
    except ValidationError:  # of another form: it differs
        return kept
    return found.model_dump(mode='json', exclude={'scores'})


def _text(augmentation: AugmentConfig) -> str:
    content = augmentation.model_dump(mode='json', exclude={'workers'})
    return json.dumps(content, indent=1) + '\n'

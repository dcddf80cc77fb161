# SPDX-License-Identifier: Apache-2.0
"""Does what there is to do for an experiment, beside whoever else is at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import logging
import math
from pathlib import Path
from time import monotonic, sleep

from multishift_perception.disk import reporting_full_disk
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import AugmentConfig, read_config
from multishift_training.augmentation.run import augment
from multishift_training.comparison.config import Experiment
from multishift_training.comparison.engines import time_engines
from multishift_training.comparison.folder import ComparisonFolder
from multishift_training.comparison.jobs import Job, list_jobs
from multishift_training.comparison.measuring import measure
from multishift_training.comparison.pictures import draw_pictures
from multishift_training.comparison.report import TABLE, write_report
from multishift_training.comparison.results import Results, gather_results
from multishift_training.export import Precision
from multishift_training.loop.devices import leave_torchrun
from multishift_training.loop.train import train
from multishift_training.loop.watch import NotFiniteError

logger = logging.getLogger(__name__)

_POLL = 1.0  # seconds between two looks at what others have done


def compare(
    experiment: Experiment,
    path: Path,
    *,
    root: Path,
    seeds: Sequence[int] | None = None,
    seconds: float = math.inf,
) -> Results:
    """Train and measure all ways with all seeds; what is done already is not done again.

    Any number of processes may be at work in one folder, those of `torchrun` among them: each
    takes jobs that no other has, and returns when all jobs are done.

    Args:
        experiment: what to compare.
        path: the experiment's folder.
        root: folder that relative paths of data and weights start from.
        seeds: to take in place of the experiment's.
        seconds: time after which the run in progress is saved and left; the same call goes on
            from there.

    Returns:
        What is found so far: all of it, unless the time was over.

    Raises:
        MultishiftError: the folder holds something else, or what is done of the experiment was
            done by another configuration; data or weights are at fault; the disk is full; or,
            once all others are done, ways have diverged.
    """
    leave_torchrun()
    with reporting_full_disk(path, resumes=True):
        jobs = list_jobs(experiment, experiment.seeds if seeds is None else seeds)
        augmentation = None
        if experiment.augmentation is not None and any(job.is_generated for job in jobs):
            augmentation = read_config(experiment.augmentation)
        folder = ComparisonFolder(path, experiment)
        folder.begin()
        folder.check(jobs, augmentation)
        work = _Work(experiment, folder, jobs, augmentation, root, monotonic() + seconds)
        work.do()
        results = gather_results(experiment, folder, jobs)
        write_report(results, experiment, folder)
        work.raise_diverged()
    return results


def add_engine_times(
    experiment: Experiment,
    path: Path,
    *,
    root: Path,
    seeds: Sequence[int],
    precision: Precision,
    seconds: float,
) -> Results:
    """Time engines of what is done of an experiment, and write its report anew.

    Args:
        experiment: what was compared.
        path: its folder.
        root: folder that relative paths of data and weights start from.
        seeds: those to show; engines are of the first that is done.
        precision: of the engines, ``fp32`` or ``int8``.
        seconds: how long each is called.

    Returns:
        What is found so far.

    Raises:
        MultishiftError: as for `time_engines`, or what is done of the experiment was done by
            another configuration.
    """

    def add(folder: ComparisonFolder, jobs: Sequence[Job]) -> None:
        time_engines(folder, jobs, root=root, precision=precision, seconds=seconds)

    return _add(experiment, path, seeds, add)


def add_pictures(
    experiment: Experiment, path: Path, *, root: Path, seeds: Sequence[int], count: int
) -> Results:
    """Draw images as what is done of an experiment sees them, and write its report anew.

    Args:
        experiment: what was compared.
        path: its folder.
        root: folder that relative paths of data and weights start from.
        seeds: those to show; pictures are of the first that is done.
        count: images of each test.

    Returns:
        What is found so far.

    Raises:
        MultishiftError: as for `draw_pictures`, or what is done of the experiment was done by
            another configuration.
    """

    def add(folder: ComparisonFolder, jobs: Sequence[Job]) -> None:
        draw_pictures(experiment, folder, jobs, root=root, count=count)

    return _add(experiment, path, seeds, add)


def _add(
    experiment: Experiment,
    path: Path,
    seeds: Sequence[int],
    add: Callable[[ComparisonFolder, Sequence[Job]], None],
) -> Results:
    """Let something be added to what is done, and write the report anew."""
    jobs = list_jobs(experiment, seeds)
    with reporting_full_disk(path, resumes=True):
        folder = ComparisonFolder(path, experiment)
        folder.begin()
        folder.check(jobs, None)
        add(folder, jobs)
        results = gather_results(experiment, folder, jobs)
        write_report(results, experiment, folder)
    return results


class _Work:
    """What this process does of an experiment."""

    def __init__(
        self,
        experiment: Experiment,
        folder: ComparisonFolder,
        jobs: Sequence[Job],
        augmentation: AugmentConfig | None,
        root: Path,
        end: float,
    ) -> None:
        self._experiment = experiment
        self._folder = folder
        self._jobs = jobs
        self._augmentation = augmentation
        self._root = root
        self._end = end
        self._diverged: dict[str, str] = {}  # what was said of each job

    def do(self) -> None:
        """Take one job after the other until all are done, by whomever, or the time is over.

        Those that diverge are left, and what starts from them: the others are not to wait for it.
        """
        waits = False
        while (left := self._left()) and monotonic() < self._end:
            if any(self._try(job) for job in left):
                waits = False
                continue
            if not waits:
                logger.info('waiting for other processes to do %s', left[0])
            waits = True
            sleep(_POLL)

    def raise_diverged(self) -> None:
        """Say which jobs diverged, if any, once no other is left.

        Raises:
            MultishiftError: some did.
        """
        if self._diverged and not self._left():
            told = [f'{job}: {fault}' for job, fault in self._diverged.items()]
            told.append(f'what the others reached is in {self._folder.path / TABLE}')
            raise MultishiftError('\n'.join(told))

    def _left(self) -> list[Job]:
        return [
            job
            for job in self._jobs
            if not self._folder.is_done(job) and not self._is_hopeless(job)
        ]

    def _is_hopeless(self, job: Job) -> bool:
        """Return whether it diverged, or what it starts from."""
        start = self._start(job)
        return str(job) in self._diverged or (start is not None and self._is_hopeless(start))

    def _start(self, job: Job) -> Job | None:
        """Return the job that it starts from, if any."""
        if job.starts_from is None:
            return None
        return next(j for j in self._jobs if (j.seed, j.way) == (job.seed, job.starts_from))

    def _try(self, job: Job) -> bool:
        """Do a job, or the partners that it wants first; return whether something was done."""
        start = self._start(job)
        if start is not None and not self._folder.is_done(start):
            return False
        if job.is_generated and not self._folder.has_generated:
            return self._generate()
        with self._folder.claimed(job) as own:
            if not own or self._folder.is_done(job):
                return own
            logger.info('%s (%d of %d are left)', job, len(self._left()), len(self._jobs))
            try:
                self._train_and_measure(job)
            except NotFiniteError as error:
                fault = str(error)  # the error itself would keep the network
                logger.warning('%s: %s', job, fault)
                self._diverged[str(job)] = fault
            except MultishiftError as error:
                raise MultishiftError(f'{job}: {error}') from error
        return True

    def _train_and_measure(self, job: Job) -> None:
        folder = self._folder
        folder.check_weights(job)
        if not folder.is_trained(job):
            folder.take_up(job)
            left = self._end - monotonic()
            if train(folder.config(job), folder.run(job), root=self._root, seconds=left) is None:
                return
        tests = {
            name: test
            for name, test in self._experiment.tests.items()
            if name not in folder.figures(job)
        }
        found = measure(
            folder.weights(job),
            tests,
            job.training.scores,
            data=job.training.data,
            root=self._root,
            cache=folder.cache,
        )
        for name, figures in found:
            folder.add_figures(job, name, figures)
        results = gather_results(self._experiment, folder, self._jobs)
        write_report(results, self._experiment, folder)

    def _generate(self) -> bool:
        """Generate partners, unless another process does; return whether they are there."""
        assert self._augmentation is not None
        with self._folder.claimed(None) as own:
            if own and not self._folder.has_generated:
                logger.info('partners are generated')
                augment(self._augmentation, self._folder.generated, root=self._root)
                self._folder.mark_generated(self._augmentation)
        return own

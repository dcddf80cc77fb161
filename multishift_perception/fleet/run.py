# SPDX-License-Identifier: Apache-2.0
"""Replays many bags beside whoever else is at it, and sums up what came of all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
import logging
import os
from pathlib import Path
from time import sleep
from typing import Any

from multishift_perception import __version__
from multishift_perception.bags import BagReader, choose_topics
from multishift_perception.destinations import BAG, REPLAY_MANY, check_file
from multishift_perception.disk import FullDiskError, reporting_full_disk
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.files import remove_leftovers
from multishift_perception.fleet.folder import FleetFolder, file_name_of
from multishift_perception.fleet.result import BagResult
from multishift_perception.fleet.sources import Source
from multishift_perception.fleet.totals import Totals
from multishift_perception.process.workers import WorkerProcess
from multishift_perception.progress import set_quiet
from multishift_perception.replay import Replay, Replayed, Settings
from multishift_perception.report.drive_report import write_report
from multishift_perception.report.fleet_report import FleetReport, write_fleet_report
from multishift_perception.report.provenance import provenance

logger = logging.getLogger(__name__)

_POLL_S = 0.5  # between two looks at what others have done


@dataclass(frozen=True)
class Task:
    """What is to be done; all processes get the same.

    Attributes:
        sources: the bags.
        out: folder of the report.
        settings: how outputs are judged.
        bundle: engine bundle; None for the embedded one.
        backend: ``auto`` or one of the bundle's.
        device: index of the GPU, where one is used.
        cameras: to take of each bag; all for none.
        topics: likewise, in place of cameras.
        record: folder that each bag's outputs are written to; None for none.
        force: whether what is done is done anew, and recordings are replaced.
    """

    sources: tuple[Source, ...]
    out: Path
    settings: Settings = field(default_factory=Settings)
    bundle: Path | None = None
    backend: str = 'auto'
    device: int = 0
    cameras: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    record: Path | None = None
    force: bool = False

    def recording(self, source: Source) -> Path | None:
        """Return where the outputs of a bag are written to, for each to another file."""
        if self.record is None:
            return None
        name = file_name_of(source.name)
        if not name.endswith('.mcap'):
            name += '.mcap'
            # The folder of a recording and its file may lie side by side.
            while name in self._file_names:
                name += '.mcap'
        return self.record / name

    @cached_property
    def _file_names(self) -> frozenset[str]:
        return frozenset(file_name_of(source.name) for source in self.sources)


@dataclass(frozen=True)
class TorchrunRank:
    """Which process of how many this is, in `torchrun`'s words; by default the only one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @classmethod
    def of_environment(cls) -> TorchrunRank:
        """Return what `torchrun` says in the environment.

        Raises:
            MultishiftError: the environment says something that is no number.
        """
        given = {}
        for name in (known.name for known in fields(cls)):
            if (text := os.environ.get(name.upper())) is None:
                continue
            try:
                given[name] = int(text)
            except ValueError as error:
                raise MultishiftError(
                    f'the environment has {name.upper()}={text}: give a number, as `torchrun` '
                    'does, or unset it'
                ) from error
        return cls(**given)


def replay_fleet(task: Task, *, jobs: int = 1) -> FleetReport | None:
    """Replay bags that are not done yet, and write a report over all.

    Any number of processes may be at work in one folder, those of `torchrun` among them: each
    takes bags that no other has, and returns when all bags are done. A bag at fault is left out.

    Args:
        task: what to do.
        jobs: processes on this machine, this one among them.

    Returns:
        The report; None in all processes of `torchrun` but the first, which writes none.

    Raises:
        MultishiftError: the folder holds something else, or bags that were replayed otherwise;
            the engine is at fault; no bag came to anything; or the disk is full.
    """
    this = TorchrunRank.of_environment()
    if task.force and this.world_size > 1:
        raise MultishiftError(
            '--force does not go with several hosts or processes of `torchrun`, of which each '
            "would begin anew: delete the report's folder instead"
        )
    threads = _threads(jobs * this.local_world_size)
    with reporting_full_disk(task.out, resumes=True):
        device = task.device + this.local_rank
        engine = Engine.load(task.bundle, backend=task.backend, device=device, threads=threads)
        with engine:
            folder = FleetFolder(task.out, described(task, engine))
            if this.rank == 0:
                reads = [source.path for source in task.sources]
                folder.begin(force=task.force, reads=reads)
                _check_recordings(task, folder)
            else:
                folder.join()
            with _helpers(task, jobs - 1, threads, device):
                _Work(task, folder, engine).do()
            if this.rank != 0:
                return None
            report = _sum_up(task, folder, engine)
            if not report.bags:
                name, reason = next(iter(report.failed.items()))
                raise MultishiftError(
                    f'none of {len(report.failed)} bags can be judged; {name}: {reason}'
                )
            write_fleet_report(report, task.out)
    return report


def described(task: Task, engine: Engine) -> dict[str, Any]:
    """Return all that decides what comes of a bag."""
    return {
        'engine': engine.digest,
        'backend': engine.backend,
        **asdict(task.settings),
        'cameras': sorted(task.cameras),
        'topics': sorted(task.topics),
        'record': task.record and str(task.record.resolve()),
        'version': __version__,
    }


def _threads(processes: int) -> int:
    """Return how many threads each of so many processes computes with; 0: as it likes."""
    return 0 if processes == 1 else max(1, len(os.sched_getaffinity(0)) // processes)


def _check_recordings(task: Task, folder: FleetFolder) -> None:
    for source in task.sources:
        path = task.recording(source)
        if path is not None and not folder.is_done(source):
            own = task.force or folder.owns(source, path)
            check_file(path, BAG, force=own, reads=[s.path for s in task.sources])


@contextmanager
def _helpers(task: Task, count: int, threads: int, device: int) -> Iterator[None]:
    """Have further processes do their part while the block does its own."""
    arguments = replace(task, device=device), threads
    helpers = [WorkerProcess(target=_help, args=arguments) for _ in range(count)]
    for helper in helpers:
        helper.start()
    try:
        yield
    except BaseException:
        for helper in helpers:
            helper.kill()
        raise
    finally:
        for helper in helpers:
            helper.join()


def _help(task: Task, threads: int) -> None:
    set_quiet(True)
    try:
        with Engine.load(
            task.bundle, backend=task.backend, device=task.device, threads=threads
        ) as engine:
            folder = FleetFolder(task.out, described(task, engine))
            _Work(task, folder, engine).do()
    except MultishiftError as error:
        # Whoever started this one goes on by itself, and ends where it meets the same.
        logger.error('a process of --jobs ended: %s', error)


class _Work:
    """What one process does."""

    def __init__(self, task: Task, folder: FleetFolder, engine: Engine) -> None:
        self._task = task
        self._folder = folder
        self._engine = engine

    def do(self) -> None:
        """Take one bag after the other until all are done, by whomever."""
        while left := [s for s in self._task.sources if not self._folder.is_done(s)]:
            if not any(self._try(source, len(left)) for source in left):
                sleep(_POLL_S)

    def _try(self, source: Source, left: int) -> bool:
        """Do a bag unless another process does; return whether it did."""
        with self._folder.claimed(source) as own:
            if not own or self._folder.is_done(source):
                return own
            logger.info('%s (%d of %d are left)', source.name, left, len(self._task.sources))
            fingerprint = self._folder.start(source)
            try:
                replayed = self._replay(source)
            except FullDiskError:
                raise
            except MultishiftError as error:
                logger.info('%s is left out: %s', source.name, error)
                self._folder.fail(source, str(error), fingerprint)
                return True
            write_report(replayed.report, self._folder.folder_of(source))
            self._folder.save(source, BagResult.of(source.name, replayed), fingerprint)
        return True

    def _replay(self, source: Source) -> Replayed:
        task, record = self._task, self._task.recording(source)
        if record is not None:
            own = task.force or self._folder.owns(source, record)
            check_file(record, BAG, force=own, reads=[source.path])
            remove_leftovers(record)
            self._folder.note_recording(source, record)
        with BagReader(source.path) as reader:
            chosen = list(choose_topics(reader, cameras=task.cameras, topics=task.topics))
            return Replay(reader, self._engine, task.settings, record=record).run(chosen)


def _sum_up(task: Task, folder: FleetFolder, engine: Engine) -> FleetReport:
    totals = Totals(len(engine.classes))
    failed = {}
    for source in task.sources:
        if (reason := folder.failure(source)) is not None:
            failed[source.name] = reason
            continue
        link = folder.folder_of(source).relative_to(task.out)
        totals.add(folder.result(source), link.as_posix())
    return FleetReport(
        command=REPLAY_MANY,
        classes=engine.classes,
        threshold=task.settings.threshold,
        min_area=task.settings.min_area,
        settings=described(task, engine),
        overall=totals.counts.overall(),
        conditions=totals.counts.by_condition(),
        cameras=totals.counts.by_camera(),
        latency=totals.latency(),
        bags=tuple(totals.rows),
        failed=failed,
        provenance=provenance(engine, min_area=task.settings.min_area),
    )

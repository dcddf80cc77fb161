# SPDX-License-Identifier: Apache-2.0
"""A run: its sources shared out to processes, and what they leave summed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass
import json
import logging
import os
from pathlib import Path

import cv2
import torch

from multishift_perception.disk import reporting_full_disk
from multishift_perception.errors import MultishiftError
from multishift_perception.files import remove_leftovers, write_text
from multishift_perception.process.workers import worker_pool
from multishift_perception.progress import Bar, bar
from multishift_training.augmentation import sheet
from multishift_training.augmentation.config import AugmentConfig, ControlNetGenerator
from multishift_training.augmentation.filters import open_jury
from multishift_training.augmentation.generators import open_generator
from multishift_training.augmentation.objects import open_objects
from multishift_training.augmentation.output_folder import RECORDS, SHEET, SUMMARY, AugmentFolder
from multishift_training.augmentation.records import Summary, summarize, to_lines
from multishift_training.augmentation.scenes import Scenes
from multishift_training.augmentation.worker import Outcome, Worker

logger = logging.getLogger(__name__)

Seconds = dict[str, float]


@dataclass(frozen=True)
class _Rank:
    """Which of the processes that `torchrun` started this one is; the only one without it."""

    index: int
    total: int

    @classmethod
    def of_environment(cls) -> _Rank:
        """Read the rank from the environment, and take the GPU that belongs to it."""
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', 0)))
        return cls(int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1)))


def augment(config: AugmentConfig, path: Path, *, root: Path) -> Summary:
    """Make an augmented data set; a run that was killed goes on after its last whole source.

    Under `torchrun` each process does its share, and the last one's summary is of all.

    Args:
        config: the configuration.
        path: the run's folder.
        root: folder that relative paths of data and weights start from.

    Returns:
        Counts of what is recorded so far, by all processes.

    Raises:
        MultishiftError: the folder holds a run of another configuration, another process is at
            work on it, data or weights are missing, or the disk is full; what was recorded
            before is whole.
    """
    with reporting_full_disk(path, resumes=True):
        return _augment(config, path, root)


def _augment(config: AugmentConfig, path: Path, root: Path) -> Summary:
    rank = _Rank.of_environment()
    folder = AugmentFolder(path, config)
    times = folder.path / f'timing_{rank.index}.json'
    with folder.held(rank.index):
        # A killed process's: also where it had nothing else left to do.
        remove_leftovers(times)
        scenes = Scenes(config, root, folder.cache)
        share = range(rank.index, len(scenes), rank.total)
        todo = [index for index in share if not folder.is_done(scenes.names[index])]
        with bar(
            'augment',
            len(share),
            initial=len(share) - len(todo),
            unit='image',
            disable=rank.index != 0,
        ) as shown:
            seconds = _work(config, folder, scenes, root, todo, shown) if todo else {}
        if seconds:
            _write_times(folder, times, seconds)
        return _sum_up(config, folder, scenes)


def _work(
    config: AugmentConfig,
    folder: AugmentFolder,
    scenes: Scenes,
    root: Path,
    todo: Sequence[int],
    shown: Bar,
) -> Seconds:
    """Do sources, here or in processes of their own; return the seconds spent, by step."""
    if config.workers > 1:
        return _in_processes(config, folder, root, todo, shown)
    with _one_thread(enabled=not isinstance(config.generator, ControlNetGenerator)):
        worker = _open_worker(config, folder, scenes, root)
        counts: Counter[str] = Counter()
        for outcome in worker.run(todo):
            _show(shown, counts, outcome)
        return dict(worker.seconds)


def _open_worker(
    config: AugmentConfig, folder: AugmentFolder, scenes: Scenes, root: Path
) -> Worker:
    return Worker(
        config,
        folder,
        scenes,
        open_objects(config.objects, root),
        open_generator(config.generator, root),
        open_jury(config.filters, root),
    )


def _show(shown: Bar, counts: Counter[str], outcome: Outcome) -> None:
    counts.update(accepted=outcome.accepted, rejected=outcome.rejected, faults=int(outcome.fault))
    shown.set_postfix(counts, refresh=False)
    shown.update()


def _in_processes(
    config: AugmentConfig,
    folder: AugmentFolder,
    root: Path,
    todo: Sequence[int],
    shown: Bar,
) -> Seconds:
    seconds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    count = min(config.workers, len(todo))
    with worker_pool(count, _begin, (config, folder.path, root)) as pool:
        for done in as_completed([pool.submit(_do, index) for index in todo]):
            outcome, spent = done.result()
            seconds.update(spent)
            _show(shown, counts, outcome)
    return dict(seconds)


# Of a process that `_in_processes` started; or why there is none.
_worker: Worker | MultishiftError


def _begin(config: AugmentConfig, path: Path, root: Path) -> None:
    """Open what a process needs."""
    global _worker
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    folder = AugmentFolder(path, config)
    try:
        _worker = _open_worker(config, folder, Scenes(config, root, folder.cache), root)
    except MultishiftError as error:  # raised here, it would reach nobody
        _worker = error


def _do(index: int) -> tuple[Outcome, Seconds]:
    if isinstance(_worker, MultishiftError):
        raise _worker
    _worker.seconds.clear()
    [outcome] = _worker.run([index])
    return outcome, dict(_worker.seconds)


@contextmanager
def _one_thread(*, enabled: bool) -> Iterator[None]:
    """Let a block compute on one thread, as workers do: more may round sums otherwise."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    if enabled:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _write_times(folder: AugmentFolder, path: Path, seconds: Seconds) -> None:
    """Say where the time went, of this process and those it started."""
    total = sum(seconds.values())
    outside = 1 - seconds.get('generate', 0.0) / total
    content = {
        'seconds': {step: round(spent, 3) for step, spent in sorted(seconds.items())},
        'share_outside_generator': round(outside, 4),
    }
    write_text(path, json.dumps(content, indent=2) + '\n')
    spent = ', '.join(f'{step} {value:.1f} s' for step, value in seconds.items())
    logger.info('time: %s; %.1f %% outside the generator', spent, 100 * outside)


def _sum_up(config: AugmentConfig, folder: AugmentFolder, scenes: Scenes) -> Summary:
    """Write what sums up all that is recorded so far, by whichever process."""
    with folder.locked():
        records = [record for name in sorted(scenes.names) for record in folder.records(name)]
        records.sort(key=lambda record: record.place)
        summary = summarize(records, sources=len(scenes), per_image=config.per_image)
        folder.write(RECORDS, to_lines(records))
        folder.write(SHEET, sheet.render(config, folder, scenes, records, summary))
        folder.write(SUMMARY, summary.model_dump_json(indent=2) + '\n')
    return summary

# SPDX-License-Identifier: Apache-2.0
"""The work of one process: attempts at the samples of its sources, many at a time."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

import numpy as np

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import AugmentConfig
from multishift_training.augmentation.filters import Jury
from multishift_training.augmentation.objects import Objects
from multishift_training.augmentation.output_folder import AugmentFolder
from multishift_training.augmentation.parts import (
    Composition,
    Generated,
    Generator,
    NovelObject,
    Rejection,
)
from multishift_training.augmentation.placement import place
from multishift_training.augmentation.records import Record
from multishift_training.augmentation.scenes import Scenes
from multishift_training.augmentation.sheet import thumbnail
from multishift_training.augmentation.source import Source


class Outcome(NamedTuple):
    """What came of a source.

    Attributes:
        accepted: samples.
        rejected: attempts.
        fault: whether the source could not be read.
    """

    accepted: int
    rejected: int
    fault: bool


class _Job(NamedTuple):
    """An attempt: the index of its source, the number of the sample, and its own."""

    source: int
    sample: int
    attempt: int


class _Attempt(NamedTuple):
    """An attempt that is to be painted."""

    job: _Job
    composition: Composition
    seed: np.random.SeedSequence


class Worker:
    """Turns sources into recorded samples; each depends on (seed, source, sample, attempt) alone.

    Attributes:
        seconds: spent so far, by step.
    """

    def __init__(
        self,
        config: AugmentConfig,
        folder: AugmentFolder,
        scenes: Scenes,
        objects: Objects,
        generator: Generator,
        jury: Jury,
    ) -> None:
        """Take the parts of a run."""
        self._config = config
        self._folder = folder
        self._scenes = scenes
        self._objects = objects
        self._generator = generator
        self._jury = jury
        self._queue: deque[_Job] = deque()
        self._sources: dict[int, Source] = {}
        self._done: list[Outcome] = []
        self.seconds: dict[str, float] = defaultdict(float)

    def run(self, indices: Iterable[int]) -> Iterator[Outcome]:
        """Do sources; each is recorded when its outcome is yielded.

        Args:
            indices: of the sources.

        Raises:
            MultishiftError: what all sources need is at fault, or the disk is full.
        """
        waiting = iter(indices)
        while (group := self._compose(waiting)) or self._done:
            if group:
                self._paint(group)
            yield from self._done
            self._done.clear()

    def _compose(self, waiting: Iterator[int]) -> list[_Attempt]:
        """Return attempts to be painted together: as many as the generator likes, if there are."""
        group: list[_Attempt] = []
        while len(group) < self._generator.batch and not self._done:
            if not self._queue:
                source = next(waiting, None)
                if source is None:
                    break
                self._open(source)
                continue
            job = self._queue.popleft()
            attempt = self._attempt(job)
            if attempt is not None:
                group.append(attempt)
        return group

    def _open(self, source: int) -> None:
        """Read a source and queue its samples; record a fault instead if it cannot be read."""
        name, samples = self._scenes.names[source], self._config.per_image
        try:
            with self._timed('read'):
                scene = self._scenes.read(source)
        except MultishiftError as error:
            self._folder.commit(
                name, [Record(source=name, verdict='fault', reason=str(error))], {}
            )
            self._done.append(Outcome(0, 0, True))
            return
        self._sources[source] = Source(scene, samples)
        self._queue.extend(_Job(source, sample, 0) for sample in range(samples))

    def _attempt(self, job: _Job) -> _Attempt | None:
        """Draw and place an object; none if that fails."""
        drawn, placed, painted = np.random.SeedSequence(self._entropy(job)).spawn(3)
        novel: NovelObject | None = None
        try:
            with self._timed('draw'):
                novel = self._draw(np.random.default_rng(drawn))
            with self._timed('place'):
                composition = place(
                    self._config.placement,
                    self._sources[job.source].scene,
                    novel,
                    np.random.default_rng(placed),
                )
        except Rejection as rejection:
            self._reject(job, rejection, novel)
            return None
        return _Attempt(job, composition, painted)

    def _draw(self, rng: np.random.Generator) -> NovelObject:
        try:
            return self._objects.draw(rng)
        except MultishiftError as error:
            raise Rejection('object unreadable', origin=str(error)) from None

    def _paint(self, group: list[_Attempt]) -> None:
        """Paint compositions, and settle each."""
        with self._timed('generate'):
            images = self._generator.generate(
                [attempt.composition for attempt in group], [attempt.seed for attempt in group]
            )
        for (job, composition, _), generated in zip(group, images, strict=True):
            try:
                with self._timed('filter'):
                    mask, figures = self._jury.judge(
                        composition, generated.image, generated.painted
                    )
            except Rejection as rejection:
                self._reject(job, rejection, composition.object, composition, generated)
                continue
            with self._timed('write'):
                labels = composition.scene.labels.copy()
                labels[mask] = NOVEL
                record = self._record(job, composition.object, generated, figures)
                self._sources[job.source].accept(record, generated.image, labels)
            self._settle(job)

    def _reject(
        self,
        job: _Job,
        rejection: Rejection,
        novel: NovelObject | None,
        composition: Composition | None = None,
        generated: Generated | None = None,
    ) -> None:
        """Record a rejection, and try again unless that was the last attempt."""
        source = self._sources[job.source]
        record = self._record(job, novel, generated, rejection.figures, rejection)
        source.rejected.append(record)
        if composition is not None and generated is not None:
            with self._timed('write'):
                picture = thumbnail(generated.image, composition.mask)
                source.thumbnails[record.thumbnail] = picture
        if job.attempt + 1 < self._config.attempts:
            # Before others, so that few sources are open at a time.
            self._queue.appendleft(job._replace(attempt=job.attempt + 1))
        else:
            self._settle(job)

    def _settle(self, job: _Job) -> None:
        """Count a sample as decided; publish its source if it was the last."""
        source = self._sources[job.source]
        source.open -= 1
        if source.open:
            return
        del self._sources[job.source]
        with self._timed('write'):
            source.commit(self._folder)
        self._done.append(Outcome(len(source.accepted), len(source.rejected), False))

    def _entropy(self, job: _Job) -> tuple[int, ...]:
        return (self._config.seed, *job)

    def _record(
        self,
        job: _Job,
        novel: NovelObject | None,
        generated: Generated | None,
        figures: dict[str, float],
        rejection: Rejection | None = None,
    ) -> Record:
        origin = '' if rejection is None else rejection.origin
        return Record(
            source=self._scenes.names[job.source],
            sample=job.sample,
            attempt=job.attempt,
            verdict='accepted' if rejection is None else 'rejected',
            reason='' if rejection is None else rejection.reason,
            object='' if novel is None else novel.name,
            origin=origin if novel is None else novel.origin,
            ade_index=None if novel is None else novel.ade_index,
            prompt='' if generated is None else generated.prompt,
            domain={} if generated is None else dict(generated.domain),
            seed=self._entropy(job),
            generator=self._generator.version,
            filters=self._jury.versions,
            figures=figures,
        )

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += perf_counter() - start

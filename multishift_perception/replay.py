# SPDX-License-Identifier: Apache-2.0
"""The pipeline over a bag: metrics where there is ground truth, latency, pictures, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
import logging
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from multishift_perception import bags
from multishift_perception.bags import BagReader
from multishift_perception.bags.truth_join import BagFrame, TruthJoin
from multishift_perception.destinations import REPLAY
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.images.codec import FrameError, decode
from multishift_perception.pipeline import FrameOutput, Pipeline, anomaly_mask
from multishift_perception.progress import track
from multishift_perception.report.drive_evaluation import Evaluation, JudgedFrame
from multishift_perception.report.drive_report import FrameCount, Latency, Report
from multishift_perception.report.gallery import Gallery
from multishift_perception.report.provenance import provenance
from multishift_perception.rerun_file import Observation, RerunFile, writing_rerun

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Ready:
    """A decoded frame that waits for its engine call."""

    source: BagFrame
    image: NDArray[np.uint8]
    decode_ms: float


@dataclass
class _Stages:
    """Durations in milliseconds."""

    decode: list[float] = field(default_factory=list)
    call: list[float] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)


class Replay:
    """One run of an engine over a bag."""

    def __init__(
        self,
        reader: BagReader,
        engine: Engine,
        *,
        threshold: float = 0.5,
        recording: RerunFile | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            reader: opened bag.
            engine: loaded engine.
            threshold: of the anomaly mask, 0..1 on the calibrated scale.
            recording: takes every frame and what is said of it, for the Rerun viewer.
        """
        self._recording = recording
        self._reader = reader
        self._engine = engine
        self._threshold = threshold
        self._pipeline = Pipeline(engine)
        self._stages = _Stages()
        self._read: Counter[str] = Counter()
        self._received: Counter[str] = Counter()
        self._dropped: dict[str, Counter[str]] = {}
        self._start_ns: int | None = None

    def run(self, topics: Sequence[str] = ()) -> Report:
        """Run over the image topics named (default: all) and return the report.

        Frames that cannot be decoded are counted and skipped, as the node does.

        Raises:
            MultishiftError: no such topic, no usable frame, or ground truth that does not fit.
        """
        chosen = list(bags.choose_topics(self._reader, topics=topics))
        self._dropped = {topic: Counter() for topic in chosen}
        batch: list[_Ready] = []
        join = TruthJoin(self._reader, chosen)
        count = self._reader.count(chosen)
        classes = self._engine.classes
        self._evaluation = Evaluation(len(classes), Gallery(classes, frames=count))
        for frame in track(join.frames(), 'replay', count, unit='frame'):
            self._read[frame.topic] += 1
            if (ready := self._decode(frame)) is None:
                continue
            # As in the node, one engine call takes frames of different cameras together.
            if batch and (
                len(batch) == self._engine.input_shape[0]
                or frame.topic in [b.source.topic for b in batch]
            ):
                self._process(batch)
                batch = []
            batch.append(ready)
        if batch:
            self._process(batch)
        return self._report(chosen, join.warnings)

    def _decode(self, frame: BagFrame) -> _Ready | None:
        if self._start_ns is None:
            self._start_ns = frame.time_ns
        start = perf_counter()
        try:
            image = decode(frame.message)
        except FrameError as error:
            if not self._dropped[frame.topic]:
                logger.warning('%s: frame dropped: %s', frame.topic, error)
            self._dropped[frame.topic][error.cause] += 1
            self._evaluation.drop(
                camera=bags.camera_of(frame.topic),
                condition=frame.condition,
                time=self._seconds(frame),
                stamp_ns=bags.stamp_ns(frame.message),
                cause=error.cause,
            )
            return None
        return _Ready(frame, image, (perf_counter() - start) * 1e3)

    def _process(self, batch: list[_Ready]) -> None:
        start = perf_counter()
        outputs = self._pipeline.run([ready.image for ready in batch])
        call_ms = (perf_counter() - start) * 1e3
        self._stages.call.append(call_ms)
        for ready, output in zip(batch, outputs, strict=True):
            start = perf_counter()
            mask = anomaly_mask(output.anomaly, self._threshold)
            mask_ms = (perf_counter() - start) * 1e3
            self._stages.decode.append(ready.decode_ms)
            self._stages.threshold.append(mask_ms)
            total_ms = ready.decode_ms + call_ms + mask_ms
            self._stages.total.append(total_ms)
            self._received[ready.source.topic] += 1
            self._judge(ready, output, mask, total_ms)

    def _seconds(self, frame: BagFrame) -> float:
        return (frame.time_ns - (self._start_ns or 0)) / 1e9

    def _judge(
        self, ready: _Ready, output: FrameOutput, mask: NDArray[np.uint8], latency_ms: float
    ) -> None:
        source = ready.source
        truth_topic = bags.namespace_of(source.topic) + bags.TRUTH_LABELS
        seconds = self._seconds(source)
        frame = JudgedFrame(
            camera=bags.camera_of(source.topic),
            condition=source.condition,
            time=seconds,
            stamp_ns=bags.stamp_ns(source.message),
            latency_ms=latency_ms,
            image=ready.image,
            labels=output.labels,
            mask=mask,
            score=output.score,
            anomaly=output.anomaly,
            truth=None if source.truth is None else bags.mono8(source.truth, truth_topic),
        )
        try:
            self._evaluation.add(frame)
        except ValueError as error:
            raise MultishiftError(
                f'{truth_topic} at {seconds:.3f} s: {error}; '
                'the bag and the engine must use the same classes'
            ) from error
        if self._recording is not None:
            self._recording.add(
                Observation(
                    camera=frame.camera,
                    stamp_ns=frame.stamp_ns,
                    image=frame.image,
                    labels=frame.labels,
                    mask=frame.mask,
                    anomaly=frame.anomaly,
                    latency_ms=frame.latency_ms,
                    truth=frame.truth,
                )
            )

    def _report(self, topics: list[str], warnings: Sequence[str]) -> Report:
        if not self._received:
            causes = sorted({cause for topic in topics for cause in self._count(topic).dropped})
            raise MultishiftError(
                f'{self._reader.path}: no usable frame on {", ".join(topics)}'
                f' ({", ".join(causes) or "the topics are empty"})'
            )
        engine, path = self._engine, self._reader.path
        return Report(
            command=REPLAY,
            title='Replay report',
            subtitle=f'{engine.name} ({engine.backend}) over {path.name}',
            classes=engine.classes,
            threshold=self._threshold,
            overall=self._evaluation.overall(),
            conditions=self._evaluation.by_condition(),
            cameras=self._evaluation.by_camera(),
            latencies=(
                Latency('decode', tuple(self._stages.decode)),
                Latency('engine call', tuple(self._stages.call)),
                Latency('threshold', tuple(self._stages.threshold)),
                Latency('decode to mask', tuple(self._stages.total)),
            ),
            counts=tuple(self._count(topic) for topic in topics),
            frames=self._evaluation.frames,
            pictures=self._evaluation.pictures(),
            provenance={
                'bag': f'{path.name}, {self._reader.duration:.1f} s',
                **provenance(engine),
            },
            warnings=(*self._reader.warnings, *warnings),
        )

    def _count(self, topic: str) -> FrameCount:
        """Return where a topic's frames went; each that was recorded is somewhere."""
        recorded = self._reader.count([topic]) + self._reader.missing(topic)
        sent = max(recorded, self._read[topic])
        lost = {'lost in the bag': sent - self._read[topic]} if sent > self._read[topic] else {}
        return FrameCount(topic, sent, self._received[topic], {**self._dropped[topic], **lost})


def replay(
    bag: Path,
    engine: Engine,
    *,
    topics: Sequence[str] = (),
    threshold: float = 0.5,
    rerun: Path | None = None,
) -> Report:
    """Run an engine over a bag; see ``Replay``.

    Args:
        bag: the bag.
        engine: loaded engine.
        topics: see ``Replay.run``.
        threshold: see ``Replay``.
        rerun: where to write a recording for the Rerun viewer; None for none.
    """
    with ExitStack() as stack:
        reader = stack.enter_context(BagReader(bag))
        recording = stack.enter_context(writing_rerun(rerun, engine.classes)) if rerun else None
        return Replay(reader, engine, threshold=threshold, recording=recording).run(topics)

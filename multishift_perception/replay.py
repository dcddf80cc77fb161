# SPDX-License-Identifier: Apache-2.0
"""The pipeline over a bag: metrics where there is ground truth, latency, pictures, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
import hashlib
from itertools import islice
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
from multishift_perception.metrics.objects import Ground
from multishift_perception.pipeline import FrameOutput, Pipeline, Pixels, anomaly_mask
from multishift_perception.process.overlap import Follower, following, read_ahead
from multishift_perception.progress import track
from multishift_perception.recording import Recording
from multishift_perception.report.drive_counts import DriveCounts
from multishift_perception.report.drive_evaluation import Evaluation, JudgedFrame, Key
from multishift_perception.report.drive_report import FrameCount, Latency, Report
from multishift_perception.report.frame_table import FrameRecord
from multishift_perception.report.gallery import Gallery
from multishift_perception.report.provenance import provenance
from multishift_perception.rerun_file import RerunFile, writing_rerun

logger = logging.getLogger(__name__)

# Frames that wait decoded, and engine calls whose outputs wait to be judged: enough that none
# waits for the other, and little memory.
_AHEAD, _BEHIND = 4, 2
# What is timed, in the order of reports; the last is the sum of the others.
_STAGES, _WHOLE = ('decode', 'engine call', 'threshold'), 'decode to mask'


@dataclass(frozen=True)
class _Ready:
    """A decoded frame that waits for its engine call."""

    source: BagFrame
    image: NDArray[np.uint8]
    decode_ms: float


@dataclass(frozen=True)
class Settings:
    """How a replay judges and what it writes.

    Attributes:
        threshold: of the anomaly mask, 0..1 on the calibrated scale.
        latency_ms: from a frame's stamp to its outputs, for the streaming metrics; None takes
            what each frame takes here, from its decoding to its mask.
        camera_height: metres of the cameras, taken for level, above flat ground: tells, with the
            bag's calibrations, how far objects are; None where it is not known.
        min_area: pixels that a region of the anomaly mask has at least, as the node's
            ``min_anomaly_area``.
    """

    threshold: float = 0.5
    latency_ms: float | None = None
    camera_height: float | None = None
    min_area: int = 0


@dataclass(frozen=True)
class Replayed:
    """What came of a replay.

    Attributes:
        report: of the bag.
        groups: what is counted, by camera and condition.
        total_ms: from decoding to mask, of every frame.
        minutes: length of the bag.
        recording: what tells it from other recordings, wherever it lies and whatever it is called.
    """

    report: Report
    groups: dict[Key, DriveCounts]
    total_ms: tuple[float, ...]
    minutes: float
    recording: str


class Replay:
    """One run of an engine over a bag, for one call of `run`.

    The bag is read and decoded by one thread (`_decode`), and outputs are judged and recorded by
    another (`_take`), while the engine runs in the one that calls.
    """

    def __init__(
        self,
        reader: BagReader,
        engine: Engine,
        settings: Settings,
        *,
        record: Path | None = None,
        rerun: Path | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            reader: opened bag.
            engine: loaded engine.
            settings: how to judge.
            record: bag to write the outputs to; None for none.
            rerun: recording for the Rerun viewer to write; None for none.
        """
        self._reader = reader
        self._engine = engine
        self._settings = settings
        self._record, self._rerun = record, rerun
        self._recording: Recording | None = None
        self._rerun_file: RerunFile | None = None
        self._pipeline = Pipeline(engine)
        # Durations in milliseconds.
        self._ms: dict[str, list[float]] = {stage: [] for stage in (*_STAGES, _WHOLE)}
        # Frames by topic: those that the bag gave, that could be used, and the others by cause.
        self._read: Counter[str] = Counter()
        self._received: Counter[str] = Counter()
        self._dropped: dict[str, Counter[str]] = {}
        self._start_ns: int | None = None

    def run(self, topics: Sequence[str] = ()) -> Replayed:
        """Run over the image topics named (default: all) and return what came of it.

        Frames that cannot be decoded are counted and skipped, as the node does.

        Raises:
            MultishiftError: no such topic, no usable frame, or ground truth that does not fit.
        """
        chosen = list(bags.choose_topics(self._reader, topics=topics))
        self._dropped = {topic: Counter() for topic in chosen}
        grounds = _grounds(self._reader, chosen, self._settings.camera_height)
        classes, count = self._engine.classes, self._reader.count(chosen)
        self._evaluation = Evaluation(len(classes), Gallery(classes, frames=count), grounds)
        join = TruthJoin(self._reader, chosen)
        with ExitStack() as stack:
            if self._record is not None:
                self._recording = stack.enter_context(
                    Recording(
                        self._record,
                        self._reader.path,
                        chosen,
                        classes,
                        self._settings.threshold,
                        self._settings.min_area,
                    )
                )
            if self._rerun is not None:
                self._rerun_file = stack.enter_context(writing_rerun(self._rerun, classes))
            follower = stack.enter_context(following(_BEHIND))
            frames = read_ahead(map(self._decode, join.frames()), _AHEAD)
            stack.enter_context(closing(frames))
            for batch in self._batches(track(frames, 'replay', count, unit='frame'), follower):
                start = perf_counter()
                outputs = self._pipeline.run([ready.image for ready in batch])
                call_ms = (perf_counter() - start) * 1e3
                follower.call(self._take, batch, outputs, call_ms)
        report = self._report(chosen, join.warnings, grounds)
        return Replayed(
            report,
            self._evaluation.counts.groups,
            tuple(self._ms[_WHOLE]),
            self._reader.duration / 60,
            _recording_of(self._reader),
        )

    def _batches(
        self, frames: Iterator[_Ready | FrameRecord], follower: Follower
    ) -> Iterator[list[_Ready]]:
        """Yield what goes into one engine call; as in the node, frames of different cameras."""
        batch: list[_Ready] = []
        for ready in frames:
            if isinstance(ready, FrameRecord):
                follower.call(self._evaluation.frames.add, ready)
                continue
            if batch and (
                len(batch) == self._engine.input_shape[0]
                or ready.source.topic in [b.source.topic for b in batch]
            ):
                yield batch
                batch = []
            batch.append(ready)
        if batch:
            yield batch

    def _decode(self, frame: BagFrame) -> _Ready | FrameRecord:
        """Return a decoded frame, or what is recorded of one that is dropped."""
        self._read[frame.topic] += 1
        if self._start_ns is None:
            self._start_ns = frame.time_ns
        start = perf_counter()
        try:
            image = decode(frame.message)
        except FrameError as error:
            if not self._dropped[frame.topic]:
                logger.warning('%s: frame dropped: %s', frame.topic, error)
            self._dropped[frame.topic][error.cause] += 1
            return FrameRecord(
                bags.stamp_ns(frame.message),
                self._seconds(frame),
                bags.camera_of(frame.topic),
                frame.condition,
                dropped=error.cause,
            )
        return _Ready(frame, image, (perf_counter() - start) * 1e3)

    def _take(self, batch: list[_Ready], outputs: list[FrameOutput], call_ms: float) -> None:
        """Threshold, judge and record the outputs of an engine call."""
        self._ms['engine call'].append(call_ms)
        for ready, output in zip(batch, outputs, strict=True):
            start = perf_counter()
            mask = anomaly_mask(output.anomaly, self._settings.threshold, self._settings.min_area)
            mask_ms = (perf_counter() - start) * 1e3
            total_ms = ready.decode_ms + call_ms + mask_ms
            self._ms['decode'].append(ready.decode_ms)
            self._ms['threshold'].append(mask_ms)
            self._ms[_WHOLE].append(total_ms)
            self._received[ready.source.topic] += 1
            judged = self._judge(ready, output, mask, total_ms)
            if self._rerun_file is not None:
                self._rerun_file.add(
                    judged.camera, judged.stamp_ns, judged.latency_ms, judged.pixels
                )
            if self._recording is not None:
                self._recording.add(ready.source, ready.image, output, mask)

    def _seconds(self, frame: BagFrame) -> float:
        return (frame.time_ns - (self._start_ns or 0)) / 1e9

    def _judge(
        self, ready: _Ready, output: FrameOutput, mask: NDArray[np.uint8], total_ms: float
    ) -> JudgedFrame:
        """Count what an output got right of its frame; return both.

        Raises:
            MultishiftError: the ground truth does not fit.
        """
        source, given_ms = ready.source, self._settings.latency_ms
        truth_topic = bags.truth_topic(source.topic)
        seconds = self._seconds(source)
        frame = JudgedFrame(
            camera=bags.camera_of(source.topic),
            condition=source.condition,
            time=seconds,
            stamp_ns=bags.stamp_ns(source.message),
            pixels=Pixels(
                ready.image,
                output.labels,
                mask,
                output.anomaly,
                None if source.truth is None else bags.mono8(source.truth, truth_topic),
            ),
            score=None if source.truth is None else output.score,
            latency_ms=total_ms if given_ms is None else given_ms,
            shift=output.covariate_shift,
        )
        try:
            self._evaluation.add(frame)
        except ValueError as error:
            raise MultishiftError(
                f'{truth_topic} at {seconds:.3f} s: {error}; '
                'the bag and the engine must use the same classes'
            ) from error
        return frame

    def _report(
        self, topics: list[str], warnings: Sequence[str], grounds: dict[str, Ground]
    ) -> Report:
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
            threshold=self._settings.threshold,
            overall=self._evaluation.counts.overall(),
            conditions=self._evaluation.counts.by_condition(),
            cameras=self._evaluation.counts.by_camera(),
            latencies=tuple(Latency(stage, tuple(ms)) for stage, ms in self._ms.items()),
            counts=tuple(self._count(topic) for topic in topics),
            frames=self._evaluation.frames,
            pictures=self._evaluation.pictures(),
            provenance={
                'bag': f'{path.name}, {self._reader.duration:.1f} s',
                **provenance(engine, min_area=self._settings.min_area),
            },
            min_area=self._settings.min_area,
            warnings=(*self._reader.warnings, *warnings, *self._unmeasured(topics, grounds)),
        )

    def _unmeasured(self, topics: list[str], grounds: dict[str, Ground]) -> Iterator[str]:
        if self._settings.camera_height is not None:
            for camera in dict.fromkeys(map(bags.camera_of, topics)):
                if camera not in grounds:
                    yield (
                        f'{self._reader.name}: no distances of camera {camera}: the bag has no '
                        'CameraInfo of it with a focal length'
                    )

    def _count(self, topic: str) -> FrameCount:
        """Return where a topic's frames went; each that was recorded is somewhere."""
        recorded = self._reader.count([topic]) + self._reader.missing(topic)
        sent = max(recorded, self._read[topic])
        lost = {'lost in the bag': sent - self._read[topic]} if sent > self._read[topic] else {}
        return FrameCount(topic, sent, self._received[topic], {**self._dropped[topic], **lost})


def _recording_of(reader: BagReader) -> str:
    """Return a digest of a bag's start, and of each topic's number of frames and first frame.

    Bags made of images all start at one time: frames tell them apart.
    """
    digest = hashlib.sha256(str(reader.start).encode())
    for topic in sorted(bags.choose_topics(reader)):
        digest.update(f'\n{topic} {reader.count([topic])} '.encode(errors='surrogateescape'))
        for first in islice(reader.raw_messages([topic]), 1):
            digest.update(first.data)
    return digest.hexdigest()[:16]


def _grounds(
    reader: BagReader, topics: Sequence[str], camera_height: float | None
) -> dict[str, Ground]:
    """Return how the cameras stand that a bag has a calibration of, by name."""
    spaces = {bags.info_topic(topic): bags.camera_of(topic) for topic in topics}
    infos = [topic for topic in spaces if reader.topics.get(topic) == bags.CAMERA_INFO]
    found: dict[str, Ground] = {}
    if camera_height is None or not infos:
        return found
    for topic, info, _ in reader.messages(infos):
        if spaces[topic] not in found and info.k[4] > 0:
            found[spaces[topic]] = Ground(float(info.k[4]), float(info.k[5]), camera_height)
        if len(found) == len(infos):
            break
    return found

# SPDX-License-Identifier: Apache-2.0
"""Turns a recorded run into a report: metrics, latency over DDS, and where frames went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from multishift_perception import bags
from multishift_perception.bags import BagReader
from multishift_perception.bags.truth_join import BagFrame, TruthJoin
from multishift_perception.demo.graph import GraphRun, Source
from multishift_perception.demo.restamp import PlayStamps
from multishift_perception.demo.results import (
    Outputs,
    frames_with_outputs,
    last_status,
    score_of,
    where_frames_went,
)
from multishift_perception.destinations import DEMO
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.images.codec import FrameError, decode
from multishift_perception.outputs import NODE, NODE_NAME, Output, camera_status_name
from multishift_perception.pipeline import Pixels, anomaly_levels
from multishift_perception.progress import track
from multishift_perception.report.drive_evaluation import Evaluation, JudgedFrame
from multishift_perception.report.drive_report import FrameCount, Latency, Report
from multishift_perception.report.frame_table import FrameRecord
from multishift_perception.report.gallery import Gallery
from multishift_perception.report.provenance import provenance

_STAGES = {output: output.stage for output in Output if output.stage}


class Judge:
    """Collects a report from a recorded run."""

    def __init__(self, run: GraphRun, engine: Engine, threshold: float) -> None:
        """Start empty."""
        self._threshold = threshold
        self._run = run
        self._engine = engine
        self._evaluation = Evaluation(len(engine.classes), Gallery(engine.classes))
        self._latencies: dict[str, list[float]] = {stage: [] for stage in _STAGES.values()}
        self._whole: list[float] = []
        self._received: Counter[str] = Counter()

    def judge(self, source: BagReader) -> Report:
        """Read the run's results and return the report.

        Args:
            source: the opened bag that was played.

        Raises:
            MultishiftError: nothing was received, or the ground truth does not fit the engine.
        """
        start_ns: int | None = None
        topics = [camera.image_topic for camera in self._run.sources]
        join, stamps = TruthJoin(source, topics), PlayStamps()
        with BagReader(self._run.results, name='the outputs of the node') as results:
            count = source.count(topics)
            frames = track(
                frames_with_outputs(join, stamps, results, self._run), 'judge', count, unit='frame'
            )
            for camera, frame, outputs in frames:
                start_ns = frame.time_ns if start_ns is None else start_ns
                seconds = (frame.time_ns - start_ns) / 1e9
                if outputs is not None:
                    self._add(camera, frame, outputs, seconds)
                else:
                    self._evaluation.frames.add(
                        FrameRecord(
                            bags.stamp_ns(frame.message),
                            seconds,
                            camera,
                            frame.condition,
                            dropped='without outputs',
                        )
                    )
            status = last_status(results)
        counts = [self._count(camera, status) for camera in self._run.sources]
        if not self._received:
            raise self._nothing_received(source, counts)
        doubts = [f'{source.name}: {warning}' for warning in stamps.warnings()]
        return self._report(source, counts, [*source.warnings, *join.warnings, *doubts])

    def _nothing_received(self, source: BagReader, counts: list[FrameCount]) -> MultishiftError:
        causes: Counter[str] = sum((Counter(count.dropped) for count in counts), Counter())
        listed = ', '.join(f'{number} {cause}' for cause, number in causes.items())
        return MultishiftError(
            f'{source.name}: the node gave no outputs for the {sum(c.sent for c in counts)} '
            f'frames that were played ({listed}); see {self._run.logs / "node.log"}'
        )

    def _add(self, camera: str, frame: BagFrame, outputs: Outputs, seconds: float) -> None:
        self._received[camera] += 1
        for output, stage in _STAGES.items():
            self._latencies[stage].append(outputs.latency_ms[output])
        latency_ms = max(outputs.latency_ms.values())
        self._whole.append(latency_ms)
        score = score_of(outputs.messages[Output.ANOMALY_SCORE])
        labels, mask = (
            bags.mono8(outputs.messages[output], output.topic_of(camera, NODE))
            for output in (Output.LABELS, Output.ANOMALY_MASK)
        )
        truth_topic = bags.truth_topic(frame.topic)
        try:
            self._evaluation.add(
                JudgedFrame(
                    camera=camera,
                    condition=frame.condition,
                    time=seconds,
                    stamp_ns=bags.stamp_ns(frame.message),
                    latency_ms=latency_ms,
                    pixels=Pixels(
                        decode(frame.message),
                        labels,
                        mask,
                        anomaly_levels(score),
                        None if frame.truth is None else bags.mono8(frame.truth, truth_topic),
                    ),
                    score=score,
                )
            )
        except (FrameError, ValueError) as error:
            raise MultishiftError(f'{frame.topic} at {seconds:.3f} s: {error}') from error

    def _report(
        self, source: BagReader, counts: Sequence[FrameCount], warnings: Sequence[str]
    ) -> Report:
        engine = self._engine
        return Report(
            command=DEMO,
            title='Demo report',
            subtitle=f'{engine.name} ({engine.backend}) in a ROS graph over {source.path.name}',
            classes=engine.classes,
            threshold=self._threshold,
            overall=self._evaluation.counts.overall(),
            conditions=self._evaluation.counts.by_condition(),
            cameras=self._evaluation.counts.by_camera(),
            latencies=(
                *(Latency(stage, tuple(ms)) for stage, ms in self._latencies.items()),
                Latency('stamp to all outputs', tuple(self._whole)),
            ),
            counts=tuple(counts),
            frames=self._evaluation.frames,
            pictures=self._evaluation.pictures(),
            provenance={
                'bag': f'{source.path.name}, {source.duration:.1f} s, played in real time',
                'latest frame of the player': f'{self._run.latest_ms:.1f} ms behind the bag',
                **provenance(engine),
            },
            warnings=tuple(warnings),
        )

    def _count(self, camera: Source, status: dict[str, dict[str, str]]) -> FrameCount:
        sent = self._run.sent.get(camera.image_topic, 0)
        received = self._received[camera.name]
        of_camera = status[camera_status_name(NODE_NAME, camera.name)]
        lost = where_frames_went(of_camera, sent=sent, received=received)
        return FrameCount(camera.name, sent, received, lost)


def judge(
    bag: Path, run: GraphRun, engine: Engine, *, threshold: float = 0.5, name: str | None = None
) -> Report:
    """Return the report of a run over a bag; see ``Judge``.

    Args:
        bag: that was played.
        run: what it left.
        engine: that the node ran.
        threshold: that the node had for its anomaly masks.
        name: what errors call the bag.
    """
    with BagReader(bag, name=name) as source:
        return Judge(run, engine, threshold).judge(source)


def counts_table(report: Report) -> str:
    """Return where each camera's frames went, a line per camera."""
    return '\n'.join(
        f'{count.camera}: {count.sent} frames sent, {count.received} received'
        + ''.join(f', {number} {cause}' for cause, number in sorted(count.dropped.items()))
        for count in report.counts
    )

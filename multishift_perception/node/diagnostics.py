# SPDX-License-Identifier: Apache-2.0
"""Statistics to diagnostic statuses: what is OK, what warns, what is an error, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from multishift_perception.engine import Engine
from multishift_perception.frame_tally import Drop, FrameTally
from multishift_perception.node.activity import Stuck
from multishift_perception.node.engine_restart import MOST_ATTEMPTS, PERSISTENT, RestartReport
from multishift_perception.node.engine_statistics import EngineReport
from multishift_perception.node.gpu_health import GpuHealth
from multishift_perception.node.hold import Hold
from multishift_perception.node.load import Load
from multishift_perception.node.recent import WINDOW_S, Percentiles
from multishift_perception.node.stream_statistics import StreamReport
from multishift_perception.outputs import (
    COVARIATE_SHIFT,
    PROCESSED_RATE,
    camera_status_name,
    engine_status_name,
)

# A camera that sends nothing for this long is said to be silent.
SILENT_S = 3.0
# Share of frames that newer ones replaced before the engine was free.
_OVERLOAD = 0.1
# Share of frames that the middleware may lose before it is said.
_LOSS = 0.05
_LOSS_HINT = (
    'start the camera driver with the DDS profile config/fastdds_shm.xml, or lower its rate'
)

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
# A level and what is said of it.
Finding = tuple[bytes, str]


@dataclass(frozen=True)
class Silence:
    """Why no frame comes: the number of publishers of the topic, and the likely cause."""

    publishers: int
    cause: str


@dataclass(frozen=True)
class CameraState:
    """What a camera's status is made of.

    Attributes:
        name: name of the camera.
        topic: resolved name of its input topic.
        transport: ``raw`` or ``compressed``.
        active: whether the node is active.
        report: the camera's statistics.
        counts_lost: whether the middleware numbers messages, so that lost ones are counted.
        silence: why no frame comes; None unless it has been silent for ``SILENT_S``.
    """

    name: str
    topic: str
    transport: str
    active: bool
    report: StreamReport
    counts_lost: bool
    silence: Silence | None


@dataclass(frozen=True)
class EngineState:
    """What the engine's status is made of.

    Attributes:
        lifecycle: the node's lifecycle state.
        engine: the loaded engine, None while unconfigured.
        report: its statistics, None while unconfigured.
        fault: why the last configuration failed; empty if it did not.
        worker_alive: whether the worker's thread runs; None unless the node is active.
        stuck: what the worker does not return from; None if nothing.
        restart: what became of attempts to load it anew, None while unconfigured.
        reloads: whether it is loaded anew when its calls go on failing.
        load: what the cameras ask of it, None while unconfigured.
        gpu: the state of its GPU, None without one.
        twins: how many other nodes have this node's name.
        has_clock: whether the node's time has begun; simulated time may not.
    """

    lifecycle: str
    engine: Engine | None = None
    report: EngineReport | None = None
    fault: str = ''
    worker_alive: bool | None = None
    stuck: Stuck | None = None
    restart: RestartReport | None = None
    reloads: bool = False
    load: Load | None = None
    gpu: GpuHealth | None = None
    twins: int = 0
    has_clock: bool = True


class Diagnostics:
    """Makes the statuses, and remembers the levels they have shown.

    `_judge_camera` and `_judge_engine` decide on levels and messages.
    """

    def __init__(self, node: str, clock: Callable[[], float]) -> None:
        """Start with nothing shown.

        Args:
            node: the node's full name, with its namespace, without the first slash.
            clock: steady time in seconds.
        """
        self._node = node
        self._clock = clock
        self._holds: dict[str, Hold] = {}

    def statuses(
        self, engine: EngineState, cameras: Sequence[CameraState]
    ) -> list[DiagnosticStatus]:
        """Return the statuses of the engine and of all cameras."""
        statuses = [engine_status(self._node, engine)]
        self._settle(statuses[0], engine.lifecycle == 'active')
        for camera in cameras:
            statuses.append(camera_status(self._node, camera))
            self._settle(statuses[-1], camera.active and camera.report.watched_s is not None)
        return statuses

    def _settle(self, status: DiagnosticStatus, works: bool) -> None:
        """Hold a higher level for a while; not of what has been stopped."""
        hold = self._holds.setdefault(status.name, Hold(self._clock))
        if not works:
            hold.forget()
        status.level, status.message = hold.settle(status.level, status.message)


def camera_status(node: str, state: CameraState) -> DiagnosticStatus:
    """Return the status of one camera; ``node`` as for `Diagnostics`."""
    report = state.report
    lost = report.lost if state.counts_lost else None
    level, message = _judge_camera(state)
    values: dict[str, Any] = {
        'image topic': state.topic,
        'transport': state.transport,
        'received rate (Hz)': f'{report.received_hz:.1f}',
        PROCESSED_RATE: f'{report.processed_hz:.1f}',
        **_latencies('latency from stamp', report.from_stamp),
        **_latencies('latency from receipt', report.from_receipt),
    }
    for stage, times in report.stages.items():
        values |= _latencies(f'time of {stage}', times)
    values |= {
        **FrameTally(report.received, report.processed, report.dropped, lost).values(),
        'stamps': report.stamp_fault or 'plausible',
        COVARIATE_SHIFT: _number(report.covariate_shift, 2),
    }
    return _status(camera_status_name(node, state.name), level, message, state.topic, values)


def _judge_camera(state: CameraState) -> Finding:
    report = state.report
    if not state.active:
        return OK, 'the node is not active'
    if report.watched_s is None:
        return OK, 'not watched: nobody subscribes to an output of this camera'
    if state.silence is not None:
        return _judge_silence(state, state.silence)
    if findings := _findings(report):
        return _joined(findings)
    if not report.received_since_watched:
        return OK, 'waiting for the first frame'
    return OK, f'{report.processed_hz:.1f} Hz'


def _findings(report: StreamReport) -> list[Finding]:
    """Return all that is wrong with a camera that sends; one fault hides no other."""
    dropped = report.recent_dropped
    text = ', '.join(f'{count} {cause}' for cause, count in sorted(dropped.items()))
    found: list[Finding] = []
    if dropped and not report.processed_hz:
        found.append((ERROR, f'every frame of the last {WINDOW_S:.0f} s is dropped: {text}'))
    elif dropped.keys() - {Drop.SUPERSEDED}:
        found.append((WARN, f'frames dropped in the last {WINDOW_S:.0f} s: {text}'))
    if dropped.get(Drop.SUPERSEDED, 0) > _OVERLOAD * report.recent_received:
        rates = f'{report.received_hz:.1f} Hz come, {report.processed_hz:.1f} Hz are processed'
        found.append((WARN, f'overload: {rates}'))
    if report.recent_lost > _LOSS * (report.recent_received + report.recent_lost):
        found.append(
            (WARN, f'{report.recent_lost} frames were lost on their way here: {_LOSS_HINT}')
        )
    if report.stamp_fault:
        found.append((WARN, report.stamp_fault))
    if report.is_strange:
        text = (
            f'frames look as no training image did, at {_number(report.covariate_shift, 2)} where '
            'those lie below 1: masks may be wrong; see `multishift engine calibrate`'
        )
        found.append((WARN, text))
    return found


def _joined(findings: Sequence[Finding]) -> Finding:
    """Return the highest level, and what was found, in the order of the levels."""
    ordered = sorted(findings, key=lambda finding: finding[0], reverse=True)
    return ordered[0][0], '; '.join(text for _, text in ordered)


def _judge_silence(state: CameraState, silence: Silence) -> Finding:
    """Tell a camera that never sent from one that stopped, and say the likely cause."""
    seconds = f'{state.report.silent_s:.0f} s'
    if state.report.received_since_watched:
        gone = f': {silence.cause}' if not silence.publishers else ''
        return ERROR, f'no frame for {seconds} on {state.topic}{gone}'
    if not silence.publishers:
        return WARN, silence.cause
    return WARN, (
        f'{silence.publishers} publisher(s) on {state.topic} and no frame for {seconds}; '
        f'likely cause: {silence.cause}'
    )


def engine_status(node: str, state: EngineState) -> DiagnosticStatus:
    """Return the status of the engine and its worker; ``node`` as for `Diagnostics`."""
    level, message = _judge_engine(state)
    values: dict[str, Any] = {'state': state.lifecycle}
    if state.fault:
        values['fault'] = state.fault
    if state.engine is not None:
        values |= _engine_values(state.engine)
    if state.report is not None:
        values |= _call_values(state.report)
    if state.restart is not None:
        values |= {'reloads': state.restart.reloads, 'last reload fault': state.restart.fault}
    if state.load is not None:
        values['frames per second that come'] = f'{state.load.demand_hz:.1f}'
    if state.gpu is not None:
        values |= state.gpu.values()
    hardware = state.engine.name if state.engine else ''
    return _status(engine_status_name(node), level, message, hardware, values)


def _engine_values(engine: Engine) -> dict[str, Any]:
    manifest = engine.manifest
    _, height, width = engine.input_shape
    batches = ', '.join(map(str, engine.batches))
    return {
        'bundle': engine.name,
        'sha256': engine.digest,
        'backend': engine.backend,
        'device': engine.device,
        'pictures are shrunk on': engine.shrinks_on,
        'model': manifest.model,
        'method': manifest.method,
        'input': f'{batches} x {height} x {width}',
        'known look': (
            manifest.look.dataset
            if manifest.look
            else 'none: the bundle was built without, and domain_shift is not published'
        ),
    }


def _call_values(report: EngineReport) -> dict[str, Any]:
    return {
        'calls': report.calls,
        'calls per second': f'{report.calls_hz:.1f}',
        'frames per call': _number(report.frames_per_call, 2),
        **_latencies('call time', report.call_time),
        **_latencies('turn time', report.turn_time),
        'frames per second that fit': _number(report.capacity_hz, 1),
        'faults': report.faults,
        'last fault': report.last_fault,
    }


def _judge_engine(state: EngineState) -> Finding:
    found: list[Finding] = []
    if state.fault:
        found.append((ERROR, state.fault))
    if state.worker_alive is False:
        found.append((ERROR, 'the worker has ended: deactivate and activate the node'))
    if state.stuck is not None:
        found.append((ERROR, f'{state.stuck}: start the node anew if it does not return'))
    if state.report is not None and state.report.recent_faults:
        text = (
            f'{state.report.recent_faults} engine calls failed in the last {WINDOW_S:.0f} s; '
            f'the last: {state.report.last_fault}'
        )
        found.append((ERROR, text))
    if text := _judge_restart(state):
        found.append((ERROR, text))
    if state.twins:
        text = f'{state.twins} more node(s) have this name: outputs and services are doubled'
        found.append((WARN, text))
    if not state.has_clock:
        found.append((WARN, 'use_sim_time is set and no /clock comes: play the bag with --clock'))
    if state.load is not None and (advice := state.load.advice):
        found.append((WARN, f'overload: {advice}'))
    if state.gpu is not None and state.gpu.trouble:
        found.append((WARN, state.gpu.trouble))
    if found:
        return _joined(found)
    if state.engine is None:
        return OK, state.lifecycle
    return OK, f'{state.lifecycle}, {state.engine.name} on {state.engine.backend}'


def _judge_restart(state: EngineState) -> str:
    """Say what is being done about an engine whose calls go on failing; empty if they do not."""
    restart = state.restart
    if restart is None:
        return ''
    why = f' ({restart.fault})' if restart.fault else ''
    if restart.loading_s is not None:
        attempt = f'attempt {restart.attempts} of {MOST_ATTEMPTS}'
        return f'the engine is being loaded anew, {attempt}, for {restart.loading_s:.1f} s'
    if restart.is_given_up:
        return f'{MOST_ATTEMPTS} attempts to load the engine anew failed{why}: start the node anew'
    if restart.wait_s is not None and state.reloads:
        attempt = f'attempt {restart.attempts + 1} of {MOST_ATTEMPTS}'
        return f'the engine will be loaded anew, {attempt}, in {restart.wait_s:.0f} s{why}'
    if restart.failures >= PERSISTENT:
        return 'the engine goes on failing: clean up and configure the node, or start it anew'
    return ''


def _number(value: float | None, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f}'


def _latencies(name: str, value: Percentiles) -> dict[str, str]:
    return {
        f'{name} {label} (ms)': _number(number, 1)
        for label, number in (('p50', value.p50), ('p95', value.p95), ('p99', value.p99))
    }


def _status(
    name: str, level: bytes, message: str, hardware: str, values: dict[str, Any]
) -> DiagnosticStatus:
    return DiagnosticStatus(
        name=name,
        level=level,
        message=message,
        hardware_id=hardware,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )

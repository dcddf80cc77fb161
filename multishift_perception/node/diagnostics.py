# SPDX-License-Identifier: Apache-2.0
"""Statistics to diagnostic statuses: what is OK, what warns, what is an error, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from multishift_perception.engine import Engine
from multishift_perception.frame_tally import Drop, FrameTally
from multishift_perception.node.engine_statistics import EngineReport
from multishift_perception.node.recent import WINDOW_S, Percentiles
from multishift_perception.node.stream_statistics import StreamReport
from multishift_perception.outputs import camera_status_name

# A camera that sends nothing for this long is said to be silent.
SILENT_S = 3.0
# Share of frames that newer ones replaced before the engine was free.
_OVERLOAD = 0.1

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


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
        silence: why no frame comes; None unless it has been silent for ``SILENT_S``.
    """

    name: str
    topic: str
    transport: str
    active: bool
    report: StreamReport
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
    """

    lifecycle: str
    engine: Engine | None
    report: EngineReport | None
    fault: str
    worker_alive: bool | None


def camera_status(node: str, state: CameraState) -> DiagnosticStatus:
    """Return the status of one camera."""
    report = state.report
    level, message = _judge_camera(state)
    values = {
        'image topic': state.topic,
        'transport': state.transport,
        'received rate (Hz)': f'{report.received_hz:.1f}',
        'processed rate (Hz)': f'{report.processed_hz:.1f}',
        **_latencies('latency from stamp', report.from_stamp),
        **_latencies('latency from receipt', report.from_receipt),
        **FrameTally(report.received, report.processed, report.dropped).values(),
        'stamps': report.stamp_fault or 'plausible',
    }
    return _status(camera_status_name(node, state.name), level, message, state.topic, values)


def _judge_camera(state: CameraState) -> tuple[bytes, str]:
    report = state.report
    if not state.active:
        return OK, 'the node is not active'
    if report.watched_s is None:
        return OK, 'not watched: nobody subscribes to an output of this camera'
    if state.silence is not None:
        return _judge_silence(state, state.silence)
    dropped = report.recent_dropped
    text = ', '.join(f'{count} {cause}' for cause, count in sorted(dropped.items()))
    if dropped and not report.processed_hz:
        advice = f' ({report.stamp_fault})' if Drop.CLOCK in dropped and report.stamp_fault else ''
        return ERROR, f'every frame of the last {WINDOW_S:.0f} s is dropped: {text}{advice}'
    if dropped.keys() - {Drop.SUPERSEDED}:
        return WARN, f'frames dropped in the last {WINDOW_S:.0f} s: {text}'
    if dropped.get(Drop.SUPERSEDED, 0) > _OVERLOAD * report.recent_received:
        rates = f'{report.received_hz:.1f} Hz come, {report.processed_hz:.1f} Hz are processed'
        return WARN, f'overload: {rates}'
    if report.stamp_fault:
        return WARN, report.stamp_fault
    if not report.received_since_watched:
        return OK, 'waiting for the first frame'
    return OK, f'{report.processed_hz:.1f} Hz'


def _judge_silence(state: CameraState, silence: Silence) -> tuple[bytes, str]:
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
    """Return the status of the engine and its worker."""
    level, message = _judge_engine(state)
    values: dict[str, Any] = {'state': state.lifecycle}
    if state.fault:
        values['fault'] = state.fault
    if state.engine is not None:
        manifest = state.engine.manifest
        batch, height, width = state.engine.input_shape
        values |= {
            'bundle': state.engine.name,
            'sha256': state.engine.digest,
            'backend': state.engine.backend,
            'model': manifest.model,
            'method': manifest.method,
            'input': f'{batch} x {height} x {width}',
        }
    if state.report is not None:
        report = state.report
        values |= {
            'batch size': '' if report.mean_batch is None else f'{report.mean_batch:.2f}',
            **_latencies('call time', report.call_time),
            'calls': report.calls,
            'faults': report.faults,
            'last fault': report.last_fault,
        }
    hardware = state.engine.name if state.engine else ''
    return _status(f'{node}: engine', level, message, hardware, values)


def _judge_engine(state: EngineState) -> tuple[bytes, str]:
    if state.fault:
        return ERROR, state.fault
    if state.worker_alive is False:
        return ERROR, 'the worker has ended: deactivate and activate the node'
    if state.report is not None and state.report.recent_faults:
        return ERROR, (
            f'{state.report.recent_faults} engine calls failed in the last {WINDOW_S:.0f} s; '
            f'the last: {state.report.last_fault}'
        )
    if state.engine is None:
        return OK, state.lifecycle
    return OK, f'{state.lifecycle}, {state.engine.name} on {state.engine.backend}'


def _latencies(name: str, value: Percentiles) -> dict[str, str]:
    return {
        f'{name} {label} (ms)': '' if number is None else f'{number:.1f}'
        for label, number in (('p50', value.p50), ('p99', value.p99))
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

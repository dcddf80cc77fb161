# SPDX-License-Identifier: Apache-2.0
"""Faults of the engine and of the middleware, which no real node can be made to have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import CameraInfo

from multishift_perception.errors import MultishiftError
from multishift_perception.node.camera import Camera
from multishift_perception.node.engine_restart import EngineRestart
from multishift_perception.node.engine_statistics import EngineStatistics
from multishift_perception.node.frame_slots import Arrival
from multishift_perception.node.processor import Processor
from multishift_perception.node.stream_statistics import StreamStatistics
from multishift_perception.outputs import Output
from multishift_perception.pipeline import FrameOutput


class FakeOutputs:
    def __init__(self, wanted):
        self._wanted = frozenset(wanted)
        self.published = []
        self.infos = []
        self.fault = None

    def wanted(self, publish_always):
        return self._wanted

    def publish(self, wanted, header, frame, output, settings, info=None):
        if self.fault:
            raise self.fault
        self.published.append((header, output))

    def publish_camera_info(self, info, header, image_size, output_size):
        self.infos.append((info, header, image_size, output_size))


class FakePipeline:
    def __init__(self):
        self.fault = self.load_fault = None
        self.mends = False
        self.batches = []
        self.loads = 0

    def load_anew(self):
        self.loads += 1
        if self.load_fault:
            raise self.load_fault
        if self.mends:
            self.fault = None
        return self

    def run(self, frames, wanted):
        self.batches.append(len(frames))
        self.wanted = wanted
        if self.fault:
            raise self.fault
        blank = np.zeros(frames[0].shape[:2], np.uint8)
        return [FrameOutput(blank, blank, blank.astype(np.float32)) for _ in frames]


def camera(name, *wanted):
    source: Any = SimpleNamespace(camera_info=CameraInfo())
    return Camera(name, source, FakeOutputs(wanted), StreamStatistics(lambda: 0.0))  # type: ignore[arg-type]


@pytest.fixture
def pipeline():
    return FakePipeline()


@pytest.fixture
def cameras():
    return {
        'front': camera('front', Output.LABELS),
        'left': camera('left', Output.LABELS),
        'rear': camera('rear', Output.LABELS),
        'info': camera('info', Output.CALIBRATION),
    }


@pytest.fixture
def statistics():
    return EngineStatistics(lambda: 0.0)


@pytest.fixture
def clock():
    return {'ns': 10**12}


def call_size(waiting):
    return 2 if waiting > 1 else 1


@pytest.fixture
def processor(pipeline, cameras, statistics, clock):
    settings: Any = SimpleNamespace(
        publish_always=False,
        max_frame_age_ms=200,
        max_image_pixels=64 * 96,
        engine_restart='reload',
        output_size='engine',
    )
    return Processor(
        pipeline,
        cameras,
        settings=lambda: settings,
        now_ns=lambda: clock['ns'],
        engine_size=(64, 96),
        call_size=call_size,
        statistics=statistics,
        clock=lambda: clock['ns'] / 1e9,
        restart=EngineRestart(lambda: clock['ns'] / 1e9),
        load_anew=pipeline.load_anew,
    )


def batch(filled, *names):
    message = filled((1, 2, 3))
    message.header.stamp.sec = 1000
    return {name: Arrival(message, 0.0) for name in names}


def test_one_call_serves_all_cameras(processor, pipeline, cameras, statistics, filled):
    processor.process(batch(filled, 'front', 'left'))
    assert pipeline.batches == [2]
    assert all(len(cameras[name].outputs.published) == 1 for name in ('front', 'left'))
    assert pipeline.wanted == [{'labels', 'look'}, {'labels', 'look'}]


def test_outputs_leave_when_their_own_call_ends(processor, pipeline, cameras, filled):
    published = []
    run = pipeline.run

    def note(frames, wanted):
        published.append([len(cameras[n].outputs.published) for n in ('front', 'left', 'rear')])
        return run(frames, wanted)

    pipeline.run = note
    processor.process(batch(filled, 'front', 'left', 'rear'))
    assert pipeline.batches == [2, 1]
    assert published == [[0, 0, 0], [1, 1, 0]]


def test_a_frame_that_is_too_old_after_its_call_is_dropped_and_counted(
    processor, pipeline, cameras, clock, filled
):
    run = pipeline.run

    def slow(frames, wanted):
        clock['ns'] += 201_000_000
        return run(frames, wanted)

    pipeline.run = slow
    processor.process(batch(filled, 'front'))
    assert cameras['front'].outputs.published == []
    report = cameras['front'].statistics.report()
    assert (report.processed, report.dropped) == (0, {'late': 1})


def test_each_kind_of_stamp_fault_is_named_once(processor, cameras, filled, caplog):
    for seconds in (0, 0, 5000, 6000, 500):
        turn = batch(filled, 'front')
        turn['front'].message.header.stamp.sec = seconds
        processor.process(turn)
    named = [line for line in caplog.messages if 'said once' in line]
    assert ['zero' in named[0], 'ahead of' in named[1], 'behind' in named[2]] == [True] * 3
    assert len(named) == 3


def test_what_is_done_at_present_can_be_asked_for(processor, pipeline, filled):
    run, seen = pipeline.run, []

    def note(frames, wanted):
        seen.append(processor.activity.present())
        return run(frames, wanted)

    pipeline.run = note
    processor.process(batch(filled, 'front'))
    assert seen == [('engine', 0.0)]
    assert processor.activity.present() is None


def test_a_frame_above_the_bound_is_counted_named_once_and_delays_no_other(
    processor, pipeline, cameras, filled, caplog
):
    for _ in range(2):
        turn = batch(filled, 'front', 'left')
        turn['front'] = Arrival(filled((1, 2, 3), height=65, width=96), 0.0)
        turn['front'].message.header.stamp.sec = 1000
        processor.process(turn)
    assert pipeline.batches == [1, 1]
    assert cameras['front'].statistics.report().dropped == {'oversized': 2}
    assert cameras['left'].statistics.report().processed == 2
    [line] = caplog.messages
    assert '96 x 65 pixels' in line
    assert 'max_image_pixels' in line


def test_calibration_alone_needs_no_engine_call(processor, pipeline, cameras, filled):
    processor.process(batch(filled, 'info'))
    assert pipeline.batches == []
    [(_, header, image_size, output_size)] = cameras['info'].outputs.infos
    assert header.stamp.sec == 1000
    assert (image_size, output_size) == ((48, 64), (64, 96))


def test_an_engine_fault_is_counted_and_survived(
    processor, pipeline, cameras, statistics, filled, caplog
):
    pipeline.fault = RuntimeError('out of memory')
    processor.process(batch(filled, 'front', 'info'))
    processor.process(batch(filled, 'front'))
    report = statistics.report()
    assert (report.faults, report.recent_faults) == (2, 2)
    assert report.last_fault == 'RuntimeError: out of memory'
    assert cameras['front'].statistics.report().dropped == {'engine': 2}
    assert len(cameras['info'].outputs.infos) == 1
    assert caplog.text.count('Traceback') == 1
    pipeline.fault = None
    processor.process(batch(filled, 'front'))
    assert cameras['front'].statistics.report().processed == 1


def fail(processor, clock, filled, calls, step_s=1.0):
    for _ in range(calls):
        clock['ns'] += int(step_s * 1e9)
        turn = batch(filled, 'front')
        turn['front'].message.header.stamp.sec = clock['ns'] // 10**9
        processor.process(turn)


def test_an_engine_that_goes_on_failing_is_loaded_anew(
    processor, pipeline, cameras, clock, filled
):
    pipeline.fault = RuntimeError('device lost')
    pipeline.mends = True
    fail(processor, clock, filled, 3)
    assert pipeline.loads == 0
    fail(processor, clock, filled, 1)
    assert pipeline.loads == 1
    report = cameras['front'].statistics.report()
    assert (report.processed, report.dropped) == (1, {'engine': 3})


def test_it_is_not_where_the_parameter_forbids_it(processor, pipeline, clock, filled):
    pipeline.fault = RuntimeError('device lost')
    processor._settings().engine_restart = 'never'
    fail(processor, clock, filled, 20)
    assert pipeline.loads == 0
    assert len(pipeline.batches) == 20


def test_an_engine_that_cannot_be_loaded_is_never_called_and_attempts_end(
    processor, pipeline, cameras, statistics, clock, filled
):
    pipeline.fault = RuntimeError('device lost')
    pipeline.load_fault = MultishiftError('no such device')
    fail(processor, clock, filled, 60)
    assert pipeline.loads == 5
    assert len(pipeline.batches) == 3
    assert cameras['front'].statistics.report().dropped == {'engine': 60}
    assert statistics.report().last_fault.startswith('MultishiftError: there is no engine')


@pytest.mark.parametrize('alive', [True, False])
def test_a_publisher_fault_harms_no_other_camera(
    processor, cameras, filled, monkeypatch, caplog, alive
):
    monkeypatch.setattr(rclpy, 'ok', lambda: alive)
    cameras['front'].outputs.fault = RuntimeError('context is gone')
    processor.process(batch(filled, 'front', 'left'))
    assert len(cameras['left'].outputs.published) == 1
    assert cameras['front'].statistics.report().dropped == ({'publish': 1} if alive else {})
    assert ('cannot publish' in caplog.text) == alive

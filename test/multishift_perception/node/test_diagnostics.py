# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import re

from diagnostic_msgs.msg import DiagnosticStatus
import pytest

from multishift_perception.engine import Engine
from multishift_perception.node.activity import Stage, Stuck
from multishift_perception.node.diagnostics import (
    CameraState,
    Diagnostics,
    EngineState,
    Silence,
    camera_status,
    engine_status,
)
from multishift_perception.node.engine_statistics import EngineReport
from multishift_perception.node.load import Load
from multishift_perception.node.recent import Percentiles
from multishift_perception.node.stream_statistics import StreamReport

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
HEALTHY = StreamReport(
    watched_s=60.0,
    silent_s=0.05,
    received=600,
    processed=600,
    dropped={},
    received_hz=10.0,
    processed_hz=10.0,
    recent_received=50,
    recent_dropped={},
    from_stamp=Percentiles(12.34, 15.0, 20.0),
    from_receipt=Percentiles(),
    stages={Stage.ENGINE: Percentiles(7.0, 8.0, 9.0)},
    lost=3,
    recent_lost=0,
    stamp_fault=None,
    received_since_watched=True,
)


def judge(*, active=True, silence=None, counts_lost=True, **changes):
    report = replace(HEALTHY, **changes)
    state = CameraState('front', '/front/image_raw', 'raw', active, report, counts_lost, silence)
    return camera_status('car/node', state)


@pytest.mark.parametrize(
    ('changes', 'level', 'said'),
    [
        ({}, OK, '10.0 Hz'),
        ({'active': False}, OK, 'not active'),
        ({'watched_s': None}, OK, 'not watched'),
        ({'received_since_watched': False}, OK, 'waiting'),
        ({'recent_dropped': {'superseded': 5}}, OK, '10.0 Hz'),
        ({'recent_dropped': {'superseded': 6}}, WARN, 'overload: 10.0 Hz come'),
        ({'recent_dropped': {'stale': 1}}, WARN, '1 stale'),
        ({'recent_dropped': {'stale': 3}, 'processed_hz': 0.0}, ERROR, 'every frame.*3 stale'),
        (
            {'recent_dropped': {'clock': 3}, 'processed_hz': 0.0, 'stamp_fault': 'another clock'},
            ERROR,
            '3 clock; another clock',
        ),
        ({'recent_dropped': {'broken': 1, 'encoding': 2}}, WARN, '1 broken, 2 encoding'),
        ({'stamp_fault': 'zero'}, WARN, 'zero'),
        ({'stamp_fault': 'zero', 'recent_dropped': {'superseded': 6}}, WARN, 'overload.*; zero'),
        (
            {'stamp_fault': 'zero', 'recent_dropped': {'late': 3}, 'processed_hz': 0.0},
            ERROR,
            'every frame.*3 late; zero',
        ),
        ({'recent_lost': 2}, OK, '10.0 Hz'),
        ({'covariate_shift': 0.8}, OK, '10.0 Hz'),
        ({'covariate_shift': 2.34, 'is_strange': True}, WARN, 'at 2.34 .*engine calibrate'),
        ({'recent_lost': 5}, WARN, '5 frames were lost on their way.*fastdds_shm'),
        ({'silence': Silence(1, 'QoS')}, ERROR, 'no frame for 0 s on /front/image_raw'),
        (
            {'silence': Silence(2, 'QoS'), 'received_since_watched': False, 'silent_s': 4.0},
            WARN,
            '2 publisher.* no frame for 4 s; likely cause: QoS',
        ),
        (
            {'silence': Silence(0, 'no publisher'), 'received_since_watched': False},
            WARN,
            'no publisher',
        ),
        ({'silence': Silence(0, 'no publisher')}, ERROR, 'no frame .*: no publisher'),
    ],
)
def test_levels_of_a_camera(changes, level, said):
    status = judge(**changes)
    assert status.level == level
    assert re.search(said, status.message)


def test_values_of_a_camera():
    status = judge(dropped={'stale': 7}, covariate_shift=0.754)
    values = {pair.key: pair.value for pair in status.values}
    assert status.name == 'car/node: camera front'
    assert values['time of engine p95 (ms)'] == '8.0'
    assert values['lost before receipt'] == '3'
    assert values['latency from stamp p50 (ms)'] == '12.3'
    assert values['latency from receipt p99 (ms)'] == ''
    assert values['dropped: stale'] == '7'
    assert values['covariate shift'] == '0.75'
    assert values['dropped: superseded'] == '0'


def test_a_middleware_that_does_not_count_is_said():
    values = {pair.key: pair.value for pair in judge(counts_lost=False).values}
    assert values['lost before receipt'].startswith('unknown')


CALM = EngineReport(
    calls=5,
    calls_hz=1.0,
    frames_per_call=1.5,
    call_time=Percentiles(1.0, 1.5, 2.0),
    turn_time=Percentiles(2.0, 2.5, 3.0),
    capacity_hz=28.0,
    faults=0,
    recent_faults=0,
    last_fault='',
)
ACTIVE = EngineState('active', None, CALM, '', True)
STUCK = Stuck(Stage.ENGINE, 2.5, 1.0)
BUSY = Load(cameras=4, demand_hz=40.0, capacity_hz=28.0, largest_call=1, on_gpu=True)


@pytest.mark.parametrize(
    ('state', 'level', 'said'),
    [
        (EngineState('unconfigured', None, None, '', None), OK, 'unconfigured'),
        (EngineState('unconfigured', None, None, 'no bundle', None), ERROR, 'no bundle'),
        (ACTIVE, OK, 'active'),
        (replace(ACTIVE, stuck=STUCK), ERROR, 'the engine call has not returned for 2.5 s'),
        (replace(ACTIVE, twins=1), WARN, '1 more node(s) have this name'),
        (replace(ACTIVE, has_clock=False), WARN, 'no /clock comes'),
        (replace(ACTIVE, load=replace(BUSY, demand_hz=27.0)), OK, 'active'),
        (
            replace(ACTIVE, load=BUSY),
            WARN,
            'overload: 4 cameras send 40.0 frames/s, 28.0 fit: lower the rate to 7.0 Hz each, '
            'watch 2 of them, build the engine with --batch 4 too, or take a smaller',
        ),
        (replace(ACTIVE, load=BUSY, stuck=STUCK), ERROR, 'return; overload'),
        (EngineState('active', None, CALM, '', False), ERROR, 'worker has ended'),
        (
            EngineState(
                'active', None, replace(CALM, recent_faults=2, last_fault='Oops: x'), '', True
            ),
            ERROR,
            '2 engine calls failed in the last 5 s; the last: Oops: x',
        ),
    ],
)
def test_levels_of_the_engine(state, level, said):
    status = engine_status('node', state)
    assert status.level == level
    assert said in status.message


def test_values_of_the_engine():
    values = {pair.key: pair.value for pair in engine_status('node', ACTIVE).values}
    assert values['calls per second'] == '1.0'
    assert values['frames per call'] == '1.50'
    assert values['call time p95 (ms)'] == '1.5'
    assert values['frames per second that fit'] == '28.0'


def test_the_engine_s_status_says_where_pictures_are_shrunk():
    with Engine.load(None) as engine:
        values = {
            pair.key: pair.value
            for pair in engine_status('node', replace(ACTIVE, engine=engine)).values
        }
    assert (values['device'], values['pictures are shrunk on']) == ('cpu', 'cpu')


def test_a_level_rises_at_once_and_falls_late():
    now = 0.0
    diagnostics = Diagnostics('node', lambda: now)

    def shown(state):
        (status,) = diagnostics.statuses(state, [])
        return status.level, status.message

    assert shown(ACTIVE)[0] == OK
    assert shown(replace(ACTIVE, twins=1))[0] == WARN
    now = 2.0
    level, message = shown(ACTIVE)
    assert level == WARN
    assert re.fullmatch(r'1 more node.* \(until 2 s ago\)', message)
    assert shown(replace(ACTIVE, stuck=STUCK))[0] == ERROR
    now = 4.9
    assert shown(replace(ACTIVE, twins=1))[0] == ERROR
    now = 5.0
    assert shown(replace(ACTIVE, twins=1))[0] == WARN
    assert shown(replace(ACTIVE, lifecycle='inactive')) == (OK, 'inactive')


def test_one_camera_is_told_its_own_rate():
    load = Load(cameras=1, demand_hz=30.0, capacity_hz=12.0, largest_call=1, on_gpu=False)
    assert load.advice == (
        'the camera sends 30.0 frames/s, 12.0 fit: lower the rate to 12.0 Hz, or take a smaller '
        'or faster engine'
    )

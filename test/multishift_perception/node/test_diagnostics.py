# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import re

from diagnostic_msgs.msg import DiagnosticStatus
import pytest

from multishift_perception.node.diagnostics import (
    CameraState,
    EngineState,
    Silence,
    camera_status,
    engine_status,
)
from multishift_perception.node.engine_statistics import EngineReport
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
    from_stamp=Percentiles(12.34, 20.0),
    from_receipt=Percentiles(None, None),
    stamp_fault=None,
    received_since_watched=True,
)


def judge(*, active=True, silence=None, **changes):
    report = replace(HEALTHY, **changes)
    state = CameraState('front', '/front/image_raw', 'raw', active, report, silence)
    return camera_status('node', state)


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
            '3 clock.*another clock',
        ),
        ({'recent_dropped': {'broken': 1, 'encoding': 2}}, WARN, '1 broken, 2 encoding'),
        ({'stamp_fault': 'zero'}, WARN, 'zero'),
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
    status = judge(dropped={'stale': 7})
    values = {pair.key: pair.value for pair in status.values}
    assert status.name == 'node: camera front'
    assert values['latency from stamp p50 (ms)'] == '12.3'
    assert values['latency from receipt p99 (ms)'] == ''
    assert values['dropped: stale'] == '7'
    assert values['dropped: superseded'] == '0'


CALM = EngineReport(5, 1.5, Percentiles(1.0, 2.0), 0, 0, '')


@pytest.mark.parametrize(
    ('state', 'level', 'said'),
    [
        (EngineState('unconfigured', None, None, '', None), OK, 'unconfigured'),
        (EngineState('unconfigured', None, None, 'no bundle', None), ERROR, 'no bundle'),
        (EngineState('active', None, CALM, '', True), OK, 'active'),
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

# SPDX-License-Identifier: Apache-2.0
"""The shipped configuration agrees with the node's contracts; needs no launch."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
import json
from pathlib import Path
import re
from typing import Any
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

from multishift_perception.message_types import COMPRESSED_IMAGE, IMAGE, MARKERS
from multishift_perception.outputs import DIAGNOSTICS, NODE, NODE_NAME, Output, shift_status_name
from multishift_perception.shift import Shift, status_of

CONFIG = Path(__file__).parents[2] / 'config'
DDS = {'': 'http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles'}
CAMERAS = ('front', 'left')
# What the node publishes of these cameras, with its types.
TYPES = {output.topic_of(camera, NODE): output.kind for camera in CAMERAS for output in Output}
# What rviz's displays show.
_SHOWN = {'rviz_default_plugins/Image': IMAGE, 'rviz_default_plugins/MarkerArray': MARKERS}
# A value of a status by its key, as Foxglove's own panel of diagnostics asks for one.
VALUE = re.compile(
    r'/diagnostics\.status\[:\]\{name=="([^"]+)"\}\.values\[:\]\{key=="([^"]+)"\}\.value'
)


def test_rviz_shows_topics_of_the_node() -> None:
    displays = yaml.safe_load((CONFIG / 'multishift.rviz').read_text())['Visualization Manager'][
        'Displays'
    ]
    shown = {str(display['Topic']['Value']): _SHOWN[display['Class']] for display in displays}
    assert len(shown) == len(displays)
    confidence = {Output.CONFIDENCE.topic_of(camera, NODE) for camera in CAMERAS}  # for planners
    assert shown == {
        topic: kind
        for topic, kind in TYPES.items()
        if kind in _SHOWN.values() and topic not in confidence
    }


def foxglove() -> dict[str, Any]:
    return dict(json.loads((CONFIG / 'foxglove_layout.json').read_text()))


def panels(kind: str) -> list[dict[str, Any]]:
    found = foxglove()['configById'].items()
    return [config for name, config in found if name.partition('!')[0] == kind]


def test_foxglove_shows_topics_of_the_node() -> None:
    topics = [panel['imageMode']['imageTopic'] for panel in panels('Image')]
    shown = (Output.OVERLAY, Output.ANOMALY_SCORE, Output.ANOMALY_MASK)
    assert sorted(topics) == sorted(o.topic_of(camera, NODE) for camera in CAMERAS for o in shown)
    assert {TYPES[topic] for topic in topics} <= {IMAGE, COMPRESSED_IMAGE}
    for panel in (*panels('DiagnosticSummary'), *panels('DiagnosticStatusPanel')):
        assert panel['topicToRender'] == DIAGNOSTICS
    scores = [p['imageMode'] for p in panels('Image') if 'score' in p['imageMode']['imageTopic']]
    assert [(mode['minValue'], mode['maxValue']) for mode in scores] == [(0, 1)] * 2


def test_foxglove_plots_values_of_the_diagnostics() -> None:
    diagnostics = pytest.importorskip(
        'multishift_perception.node.diagnostics', exc_type=ImportError
    )
    from multishift_perception.node.stream_statistics import StreamStatistics

    statuses = {}
    for camera in CAMERAS:
        report = StreamStatistics(lambda: 0.0).report()
        state = diagnostics.CameraState(
            camera, f'/{camera}/image_raw', 'raw', True, report, True, None
        )
        status = diagnostics.camera_status(NODE_NAME, state)
        statuses[status.name] = {pair.key for pair in status.values}
    paths = [path for plot in panels('Plot') for path in plot['paths']]
    of_shifts = [path['value'] for path in paths if '/shifts.' in path['value']]
    asked = [VALUE.fullmatch(p['value']) for p in paths if p['value'] not in of_shifts]
    assert asked and all(asked)
    assert [m.groups() for m in asked if m and m[2] not in statuses[m[1]]] == []
    assert all(path['enabled'] for path in paths)  # others draw nothing
    (panel,) = panels('DiagnosticStatusPanel')
    assert panel['selectedName'] in statuses
    assert panel['selectedHardwareId'] == '/front/image_raw'


def test_foxglove_plots_the_anomalous_share_of_the_ground() -> None:
    said = status_of(Shift(1.2, 0.03))
    for camera in CAMERAS:
        [path] = [
            path['value']
            for plot in panels('Plot')
            for path in plot['paths']
            if path['value'].startswith(Output.SHIFTS.topic_of(camera, NODE) + '.')
        ]
        found = re.fullmatch(
            r'.*\.status\[:\]\{name=="(.*)"\}\.values\[:\]\{key=="(.*)"\}\.value', path
        )
        assert (
            found
            and found[1] == shift_status_name(camera)
            and float(said.values[found[2]]) == 0.03
        )


def test_foxglove_places_every_panel_once() -> None:
    placed = list(leaves(foxglove()['layout']))
    assert sorted(placed) == sorted(foxglove()['configById'])


def leaves(node: str | dict[str, Any]) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    else:
        assert node['direction'] in ('row', 'column')
        yield from leaves(node['first'])
        yield from leaves(node['second'])


def test_launch_files_start_modules_that_exist() -> None:
    files = (CONFIG.parent / 'launch').glob('*.py')
    text = '\n'.join(file.read_text() for file in files)
    modules = re.findall(r"'(multishift_perception\.[\w.]+)'", text)
    assert modules
    assert all(find_spec(module) for module in modules)


def test_parameter_file_is_accepted_by_the_node() -> None:
    parameters = pytest.importorskip('multishift_perception.node.parameters', exc_type=ImportError)
    values = yaml.safe_load((CONFIG / 'perception.yaml').read_text())['/**']['ros__parameters']
    specs = {spec.name: spec for spec in (*parameters.NODE_SPECS, parameters.CAMERA_NAMES)}
    assert values == {name: spec.default for name, spec in specs.items()}


def test_parameter_file_shows_the_cameras_parameters() -> None:
    parameters = pytest.importorskip('multishift_perception.node.parameters', exc_type=ImportError)
    text = (CONFIG / 'perception.yaml').read_text()
    commented = re.search(r'# (cameras:\n(?:    #   .*\n)+)', text)
    assert commented
    shown = yaml.safe_load(re.sub(r'(?m)^    # ', '', commented[1]))
    assert shown['cameras']['camera'].keys() == {spec.name for spec in parameters.CAMERA_SPECS}


def test_dds_profile_holds_several_full_hd_images() -> None:
    profiles = ElementTree.parse(CONFIG / 'fastdds_shm.xml').getroot().find('profiles', DDS)
    assert profiles is not None
    transports = {
        t.findtext('transport_id', namespaces=DDS): t
        for t in profiles.findall('transport_descriptors/transport_descriptor', DDS)
    }
    shared = transports['large_shared_memory']
    image = 1920 * 1080 * 3
    segment = int(shared.findtext('segment_size', '', DDS))
    message = int(shared.findtext('maxMessageSize', '', DDS))
    # Fast DDS refuses to start where a message may be larger than the segment.
    assert segment >= 10 * image > message >= 2 * image
    used = {e.text for e in profiles.findall('.//userTransports/transport_id', DDS)}
    assert used == set(transports)
    assert {t.findtext('type', namespaces=DDS) for t in transports.values()} == {'SHM', 'UDPv4'}

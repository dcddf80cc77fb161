# SPDX-License-Identifier: Apache-2.0
"""The shipped configuration agrees with the node's contracts; needs no launch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
import re
from typing import Any
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

from multishift_perception.outputs import Output

CONFIG = Path(__file__).parents[2] / 'config'
DDS = {'': 'http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles'}
OUTPUTS = {'labels', 'anomaly_mask', 'anomaly_score', 'overlay'}


def test_rviz_shows_topics_of_the_node() -> None:
    displays = yaml.safe_load((CONFIG / 'multishift.rviz').read_text())['Visualization Manager'][
        'Displays'
    ]
    topics = [re.fullmatch(r'/multishift_perception/(\w+)/(\w+)', topic_of(d)) for d in displays]
    assert all(topics)
    shown = {match.groups() for match in topics if match}
    assert shown == {(camera, output) for camera in ('front', 'left') for output in OUTPUTS}
    assert {output.topic for output in Output} >= OUTPUTS


def topic_of(display: dict[str, Any]) -> str:
    assert display['Class'] == 'rviz_default_plugins/Image'
    return str(display['Topic']['Value'])


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

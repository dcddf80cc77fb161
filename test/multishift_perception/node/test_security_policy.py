# SPDX-License-Identifier: Apache-2.0
"""The SROS2 policy allows the node exactly what a running one does."""

from __future__ import annotations

from pathlib import Path
import xml.etree.ElementTree as ElementTree

import pytest
from sensor_msgs.msg import CameraInfo, Image

from multishift_perception.outputs import NODE, Output

POLICY = Path(__file__).parents[3] / 'config/sros2/policy.xml'
CAMERAS = 'front', 'left'


def allowed(enclave: str, kind: str, access: str) -> set[str]:
    """Return the names of topics or services to which an enclave has one access."""
    lists = ElementTree.parse(POLICY).findall(
        f"enclaves/enclave[@path='{enclave}']/profiles/profile/{kind}[@{access}='ALLOW']"
    )
    assert lists
    return {name.text or '' for names in lists for name in names}


@pytest.fixture(scope='module')
def node(start_node, tiny_bundle):
    node = start_node(engine_bundle=tiny_bundle, camera_names='[front, left]')
    yield node
    assert node.stop() == 0, node.log


def test_the_node_may_do_what_it_does_and_nothing_else(node, peer):
    peer.status('engine', lambda _, values: values['state'] == 'active')
    graph, name = peer.node, NODE[1:]
    images = [peer.listen(f'{NODE}/{camera}/labels', Image) for camera in CAMERAS]
    infos = [peer.listen(f'{NODE}/{camera}/camera_info', CameraInfo) for camera in CAMERAS]

    def subscribed():
        names = {topic for topic, _ in graph.get_subscriber_names_and_types_by_node(name, '/')}
        return names if len(names) >= 2 * len(CAMERAS) else None

    assert peer.spin_until(subscribed) == allowed(NODE, 'topics', 'subscribe')
    for inbox in images + infos:
        inbox.close()
    # These go out where vision_msgs is installed.
    more = {
        output.topic_of(camera, NODE)
        for output in (Output.CLASS_NAMES, Output.ANOMALIES)
        for camera in CAMERAS
    }
    published = {topic for topic, _ in graph.get_publisher_names_and_types_by_node(name, '/')}
    assert published | more == allowed(NODE, 'topics', 'publish')
    served = {service for service, _ in graph.get_service_names_and_types_by_node(name, '/')}
    assert served == allowed(NODE, 'services', 'reply')


def test_every_output_may_be_sent_and_watched() -> None:
    outputs = {output.topic_of(camera, NODE) for output in Output for camera in CAMERAS}
    assert outputs <= allowed(NODE, 'topics', 'publish')
    watched = allowed(f'{NODE}/viewer', 'topics', 'subscribe')
    assert watched == outputs | {'/diagnostics'}


def test_who_watches_cannot_stop_the_node() -> None:
    requests = allowed(f'{NODE}/viewer', 'services', 'request')
    assert requests == {f'{NODE}/get_parameters', f'{NODE}/set_parameters'}
    commands = allowed(f'{NODE}/operator', 'services', 'request')
    assert commands == allowed(NODE, 'services', 'reply')

# SPDX-License-Identifier: Apache-2.0
"""A node whose engine fails, over DDS: it is loaded anew, and the node says so."""

from __future__ import annotations

from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
import pytest
from sensor_msgs.msg import Image

RED = (255, 0, 0)
NODE = '/failing'
IMAGES = '/failing_camera/image_raw'


@pytest.fixture(scope='module')
def fault(tmp_path_factory):
    return tmp_path_factory.mktemp('fault') / 'fault'


@pytest.fixture(scope='module')
def node(start_node, tiny_bundle, fault):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('FAIL', str(fault))
        node = start_node(
            Path(__file__).with_name('failing_node.py'),
            remaps=['__node:=failing'],
            engine_bundle=tiny_bundle,
            camera_names='[failing_camera]',
            max_frame_age_ms=5000,
        )
    yield node
    assert node.stop() == 0, node.log


@pytest.fixture(scope='module')
def inbox(node, peer):
    with peer.listen(f'{NODE}/failing_camera/labels', Image) as inbox:
        yield inbox


def send(peer, filled):
    message = filled(RED)
    message.header.stamp = peer.now()
    peer.publisher(IMAGES, Image).publish(message)
    peer.spin(0.05)


@pytest.mark.slow
def test_an_engine_that_goes_on_failing_is_loaded_anew(peer, filled, node, inbox, fault):
    peer.ask(IMAGES, filled(RED), inbox)
    fault.write_text('instance')

    def failing(status, _):
        send(peer, filled)
        return 'device lost' in status.message

    status = peer.status('engine', failing, node=NODE)
    assert status.level == DiagnosticStatus.ERROR
    inbox.messages.clear()
    peer.ask(IMAGES, filled(RED), inbox)

    def well(status, values):
        send(peer, filled)
        return status.level == DiagnosticStatus.OK and values['reloads'] == '1'

    peer.status('engine', well, node=NODE)
    assert 'the engine is loaded anew, attempt 1 of 5' in node.log


@pytest.mark.slow
def test_one_that_cannot_be_loaded_is_tried_again_later(peer, filled, node, inbox, fault):
    peer.ask(IMAGES, filled(RED), inbox)
    fault.write_text('all')

    def waiting(status, values):
        send(peer, filled)
        return 'attempt 3 of 5' in status.message and 'device lost' in values['last reload fault']

    status = peer.status('engine', waiting, node=NODE)
    assert status.level == DiagnosticStatus.ERROR
    fault.unlink()
    inbox.messages.clear()
    peer.ask(IMAGES, filled(RED), inbox)
    assert node.is_alive
    assert node.log.count('Traceback') == 1

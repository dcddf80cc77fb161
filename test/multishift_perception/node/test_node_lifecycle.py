# SPDX-License-Identifier: Apache-2.0
"""The node's states, over its services."""

from __future__ import annotations

import shutil

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
import yaml

CAMERA = '/camera/image_raw'
LABELS = '/multishift_perception/camera/labels'


@pytest.fixture
def node(start_node, peer, request):
    node = start_node(max_frame_age_ms=2000, **request.param)
    yield node
    assert node.stop() == 0, node.log
    peer.see_off()


@pytest.mark.parametrize(
    'node', [{'engine_bundle': '/missing', 'output_size': 'engine'}], indirect=True
)
def test_a_failed_configuration_is_said_and_can_be_mended(peer, filled, node, tiny_bundle):
    status = peer.status('engine', lambda s, _: s.level == DiagnosticStatus.ERROR)
    assert '/missing' in status.message
    assert node.log.count('cannot configure: engine bundle /missing does not exist') == 1
    assert peer.state() == 'unconfigured'
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == 'unconfigured'

    assert peer.set_parameter('backend', 'abacus').reason.startswith("backend cannot be 'abacus'")
    malformed = Parameter(name='backend', value=ParameterValue(type=77))
    request = SetParameters.Request(parameters=[malformed, Parameter(name='backed')])
    results = peer.call(SetParameters, 'set_parameters', request).results
    assert [result.reason for result in results] == [
        'backend cannot be of type 77: ROS has none such',
        'there is no parameter backed; the nearest name is backend',
    ]
    assert peer.set_parameter('engine_bundle', str(tiny_bundle)).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == 'inactive'
    peer.status('engine', lambda s, _: s.level == DiagnosticStatus.OK)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    with peer.listen(LABELS, Image) as inbox:
        labels = peer.ask(CAMERA, filled((0, 0, 255)), inbox)
        assert (labels.height, labels.width) == (64, 96)
        assert set(labels.data) == {1}

        # A transition that the state forbids is refused, and does no harm.
        assert not peer.change_state(Transition.TRANSITION_ACTIVATE)
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        peer.spin_until(lambda: peer.node.count_subscribers(CAMERA) == 0)
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        peer.ask(CAMERA, filled((0, 0, 255)), inbox)

    info = CameraInfo(height=48, width=64)
    info.k = [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]
    with peer.listen('/multishift_perception/camera/camera_info', CameraInfo) as inbox:
        scaled = peer.ask(CAMERA, filled((0, 0, 255)), inbox, info)
    assert (scaled.height, scaled.width) == (64, 96)
    np.testing.assert_allclose(scaled.k, [90, 0, 48, 0, 80, 32, 0, 0, 1])

    assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert peer.change_state(Transition.TRANSITION_CLEANUP)
    peer.spin_until(lambda: peer.node.count_publishers(LABELS) == 0)
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    with peer.listen(LABELS, Image) as inbox:
        peer.ask(CAMERA, filled((0, 0, 255)), inbox)
    assert peer.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert peer.state() == 'finalized'


@pytest.mark.parametrize('node', [{'autostart': False}], indirect=True)
def test_an_engine_for_no_gpu_of_this_machine_can_be_replaced(peer, node, tiny_bundle, tmp_path):
    bundle = shutil.copytree(tiny_bundle, tmp_path / 'ahead_of_time')
    manifest = yaml.safe_load((bundle / 'manifest.yaml').read_text())
    artifact = manifest['artifacts'][0]
    artifact.update(backend='tensorrt', parity=None)
    artifact['tensorrt'] = {
        'flavour': 'tensorrt_rtx',
        'version': '1.6.1',
        'compute_capability': '1.0',
        'platform': 'linux_x86_64',
    }
    manifest['artifacts'] = [artifact]
    (bundle / 'manifest.yaml').write_text(yaml.safe_dump(manifest))

    assert peer.set_parameter('engine_bundle', str(bundle)).successful
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == 'unconfigured'
    (line,) = [line for line in node.log.splitlines() if 'cannot configure' in line]
    assert f'nothing in {bundle} runs on this machine' in line
    assert 'cannot run on the GPU: ' in line
    peer.status('engine', lambda s, _: s.level == DiagnosticStatus.ERROR)

    assert peer.set_parameter('engine_bundle', str(tiny_bundle)).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == 'inactive'


@pytest.mark.parametrize('node', [{'use_sim_time': True, 'autostart': False}], indirect=True)
def test_simulated_time(peer, filled, node, tiny_bundle):
    clock = peer.node.create_publisher(Clock, '/clock', 10)
    seconds = 1000

    def tick():
        nonlocal seconds
        message = Clock()
        message.clock.sec = seconds = seconds + 1
        clock.publish(message)
        peer.spin(0.05)

    def reported():
        tick()
        return 'multishift_perception: engine' in peer.statuses

    peer.forget_statuses()
    peer.spin_until(reported)
    assert peer.set_parameter('engine_bundle', str(tiny_bundle)).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    with peer.listen(LABELS, Image) as inbox:
        publisher = peer.publisher(CAMERA, Image)
        ever_sent = set()

        def send():
            frame = filled((0, 255, 0))
            frame.header.stamp.sec = seconds
            ever_sent.add(seconds)
            publisher.publish(frame)
            peer.spin(0.1)

        def answered():
            tick()
            send()
            return inbox.messages

        labels = peer.spin_until(answered)[0]
        assert 1000 < labels.header.stamp.sec <= seconds

        def recovered(_, values):
            answered()
            return values['stamps'] == 'plausible' and values['processed'] != '0'

        peer.status('camera camera', recovered)

        def flow(begin, *, ticks):
            """Wait for outputs while the clock goes on from a second, or stands there."""
            nonlocal seconds
            seconds, sent = begin, set()
            inbox.messages.clear()

            def some():
                if ticks:
                    tick()
                sent.add(seconds)
                send()
                # Those of frames that were under way come, too.
                return sum(m.header.stamp.sec in sent for m in inbox.messages) >= 3

            peer.spin_until(some)
            assert {message.header.stamp.sec for message in inbox.messages} <= ever_sent

        flow(seconds, ticks=False)  # the clock is paused
        peer.forget_statuses()
        peer.status('camera camera', lambda *_: True)
        flow(1000, ticks=True)  # the bag begins anew
        peer.status('camera camera', recovered)

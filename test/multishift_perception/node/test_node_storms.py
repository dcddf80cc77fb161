# SPDX-License-Identifier: Apache-2.0
"""One node of twenty cameras and all that may befall it in a day, over DDS: it lives on."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
import shutil
import signal
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import pytest
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

RED = (255, 0, 0)
NODE = '/storm'
CAMERAS = [f'c{number}' for number in range(20)]
LABELS = NODE + '/{}/labels'
IMAGES = '/{}/image_raw'
PROGRAM = Path(__file__).with_name('slow_node.py')

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def slow(tmp_path_factory):
    """The file with what each engine call takes longer."""
    return tmp_path_factory.mktemp('slow') / 'seconds'


@pytest.fixture(scope='module')
def bundle(tmp_path_factory, tiny_bundle_of_sizes):
    """A bundle of the node's own."""
    return shutil.copytree(tiny_bundle_of_sizes, tmp_path_factory.mktemp('engine') / 'tiny')


@pytest.fixture(scope='module')
def start_storm(start_node, bundle, slow):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SLOW', str(slow))
        yield lambda: start_node(
            PROGRAM,
            remaps=[f'__node:={NODE[1:]}'],
            engine_bundle=bundle,
            camera_names=f'[{", ".join(CAMERAS)}]',
            # The machine that runs the tests may be slow.
            max_frame_age_ms=20_000,
        )


@pytest.fixture(scope='module')
def node(start_storm):
    node = start_storm()
    yield node
    node.process.kill()


@pytest.fixture(autouse=True)
def active(node, peer):
    """Each test begins with a node that is active, which lives."""
    assert node.is_alive, node.log
    walk_to_active(peer)
    yield
    assert 'Traceback' not in node.log


class Outputs:
    """What the node publishes of one camera, and when: (stamp, time of publication), in ns."""

    def __init__(self, peer, camera):
        self.seen = []
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self._node = peer.node
        self._subscription = peer.node.create_subscription(
            Image, LABELS.format(camera), self._store, qos
        )

    def _store(self, message, info):
        stamp = message.header.stamp
        self.seen.append((stamp.sec * 10**9 + stamp.nanosec, info['source_timestamp']))

    def close(self):
        self._node.destroy_subscription(self._subscription)


def send(peer, message, camera):
    message.header.stamp = peer.now()
    peer.publisher(IMAGES.format(camera), Image).publish(message)
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def processed(peer, camera):
    """How many frames of a camera were processed, by the last diagnostics."""
    status = peer.status(f'camera {camera}', lambda *_: True, NODE)
    return int({pair.key: pair.value for pair in status.values}['processed'])


def published_meanwhile(outputs):
    """For each output how many the node published between its frame's stamp and itself."""
    published = sorted(at for each in outputs for _, at in each.seen)
    for each in outputs:
        for stamp, at in each.seen:
            yield sum(stamp < other < at for other in published)


def test_twenty_cameras_have_equal_shares_and_none_waits_for_two_rounds(peer, filled, slow):
    slow.write_text('0.02')
    message, outputs = filled(RED), [Outputs(peer, camera) for camera in CAMERAS]
    sent = 0

    def send_to_all():
        nonlocal sent
        for camera in CAMERAS:
            send(peer, message, camera)
        peer.spin(0.02)
        sent += 1

    def shares():
        return [processed(peer, camera) - before[camera] for camera in CAMERAS]

    def have_shares():
        send_to_all()
        return min(shares()) >= 5

    def all_seen():
        send_to_all()
        return all(each.seen for each in outputs)

    def are_there():
        send_to_all()
        return f'{NODE[1:]}: camera {CAMERAS[-1]}' in peer.statuses

    peer.spin_until(all_seen)
    # Older ones lack what was processed since, which would be more than is sent from now on.
    peer.forget_statuses()
    peer.spin_until(are_there)
    before, sent = {camera: processed(peer, camera) for camera in CAMERAS}, 0
    peer.spin_until(have_shares)
    assert max(shares()) < sent, 'nothing was dropped'
    assert min(shares()) > 0.7 * max(shares())
    assert max(published_meanwhile(outputs)) <= 2 * len(CAMERAS)
    for each in outputs:
        each.close()
    slow.unlink()


def test_ten_times_the_rate_it_can_bear(peer, filled, slow):
    """The newest frame is taken, and the node says what would fit."""
    slow.write_text('0.05')
    message, outputs = filled(RED), Outputs(peer, 'c0')
    peer.spin_until(lambda: send(peer, message, 'c0') and (peer.spin(0.1) or outputs.seen))
    peer.forget_statuses()

    def overload(status, _):
        for _ in range(3):
            send(peer, message, 'c0')
            peer.spin(0.005)
        # With more than a warning where the machine let a call wait for long.
        return 'overload: ' in status.message and status.level == DiagnosticStatus.WARN

    peer.status('camera c0', overload, NODE)
    engine = peer.status('engine', overload, NODE)
    assert 'lower the rate to' in engine.message
    stamps = [stamp for stamp, _ in outputs.seen]
    assert stamps == sorted(stamps)
    # One is published while the frame is on its way, one call is under way when it comes.
    assert max(published_meanwhile([outputs])) <= 2
    outputs.close()
    slow.unlink()


def test_a_camera_that_falls_silent_keeps_no_other_waiting(peer, filled):
    assert peer.set_parameter('max_batch_wait_ms', 1000, NODE).successful
    message = filled(RED)
    inboxes = [peer.listen(LABELS.format(camera), Image) for camera in ('c1', 'c2')]

    def both():
        for camera in ('c1', 'c2'):
            send(peer, message, camera)
        peer.spin(0.05)
        return all(len(inbox.messages) > 3 for inbox in inboxes)

    peer.spin_until(both)

    def one_after_the_other():
        """A newer frame would take the place of one that waits."""
        seen = len(inboxes[1].messages)
        send(peer, message, 'c2')
        peer.spin_until(lambda: len(inboxes[1].messages) > seen)

    def silent(status, _):
        one_after_the_other()
        return 'no frame for' in status.message

    assert peer.status('camera c1', silent, NODE).level == DiagnosticStatus.ERROR

    def at_once(_, values):
        one_after_the_other()
        return float(values['time of wait p99 (ms)'] or 'inf') < 500

    peer.forget_statuses()
    peer.status('camera c2', at_once, NODE)
    assert peer.set_parameter('max_batch_wait_ms', 0, NODE).successful
    for inbox in inboxes:
        inbox.close()


def test_a_storm_of_parameter_sets_some_of_them_invalid(peer, filled):
    """A thousand in a second: frames go on, valid ones take effect, the others are refused."""
    bad = [
        ('anomaly_threshold', 1.5),
        ('anomaly_threshold', 'high'),
        ('camera_names', ['c0']),
        ('engine_bundle', '/elsewhere'),
        ('unheard_of', 1),
    ]
    good = [('anomaly_threshold', number / 1000) for number in range(500)]
    storm: list[Any] = []
    for number, pair in enumerate(good):
        storm += [pair, bad[number % len(bad)]]
    client = peer.client(SetParameters, 'set_parameters', NODE)
    message = filled(RED)
    futures: list[Any] = []
    outputs = []
    with peer.listen(LABELS.format('c0'), Image) as inbox:
        peer.ask(IMAGES.format('c0'), message, inbox)
        for name, value in storm:
            if len(futures) % 20 == 0:
                send(peer, message, 'c0')
                outputs.append(len(inbox.messages))
            parameter = Parameter(name, value=value).to_parameter_msg()
            futures.append(client.call_async(SetParameters.Request(parameters=[parameter])))
            # More at once than a service's depth of ten would be lost.
            peer.spin_until(lambda: sum(not future.done() for future in futures[-9:]) < 9)
        peer.spin_until(lambda: all(future.done() for future in futures))
    peer.node.destroy_client(client)
    results = [future.result().results[0] for future in futures]
    assert [result.successful for result in results] == [True, False] * len(good)
    assert all(result.reason for result in results[1::2])
    assert outputs[-1] - outputs[0] > 5
    request = GetParameters.Request(names=['anomaly_threshold'])
    (value,) = peer.call(GetParameters, 'get_parameters', request, NODE).values
    assert value.double_value == good[-1][1]
    assert peer.set_parameter('anomaly_threshold', 0.5, NODE).successful


def test_watchers_that_change_while_parameters_do_are_seen(peer, filled):
    """The node looks for watchers now and then, and after each change of a parameter."""
    client = peer.client(SetParameters, 'set_parameters', NODE)
    parameter = Parameter('min_anomaly_area', value=0).to_parameter_msg()

    def is_unwatched():
        future = client.call_async(SetParameters.Request(parameters=[parameter]))
        peer.spin_until(future.done)
        return peer.node.count_subscribers(IMAGES.format('c3')) == 0

    for _ in range(4):
        with peer.listen(LABELS.format('c3'), Image) as inbox:
            peer.ask(IMAGES.format('c3'), filled(RED), inbox)
        peer.spin_until(is_unwatched)
    peer.node.destroy_client(client)


def threads(node):
    return len([*Path(f'/proc/{node.process.pid}/task').iterdir()])


def test_two_hundred_subscribers_come_and_go(peer, filled, node):
    """And a third joins late: nobody misses a frame, and nothing is left of them."""
    message = filled(RED)
    watchers = [peer.listen(LABELS.format('c0'), Image) for _ in range(2)]
    peer.spin_until(lambda: all(peer.ask(IMAGES.format('c0'), message, w) for w in watchers))
    before = len(node.handles()), threads(node), len(node.segments())

    def send_and_see():
        """One frame, after which all who are there have it."""
        stamp = send(peer, message, 'c0')

        def has(inbox):
            last = inbox.messages and inbox.messages[-1].header.stamp
            return last and last.sec * 10**9 + last.nanosec == stamp

        peer.spin_until(lambda: all(has(watcher) for watcher in watchers))

    for visit in range(200):
        camera, output = f'c{visit % 3}', ('labels', 'anomaly_mask', 'overlay')[visit // 3 % 3]
        with peer.listen(f'{NODE}/{camera}/{output}', Image):
            peer.spin(0.005)
            if visit % 10 == 0:
                send_and_see()
    late = peer.listen(LABELS.format('c0'), Image)
    peer.ask(IMAGES.format('c0'), message, late)
    watchers.append(late)
    for _ in range(5):
        send_and_see()
    for watcher in watchers:
        watcher.close()
    peer.spin_until(lambda: len(node.handles()) <= before[0] + 2 and threads(node) <= before[1])
    assert len(node.segments()) == before[2]


_NEXT = {
    'unconfigured': Transition.TRANSITION_CONFIGURE,
    'inactive': Transition.TRANSITION_ACTIVATE,
}


def change(peer, transition):
    request = ChangeState.Request()
    request.transition.id = transition
    return bool(peer.call(ChangeState, 'change_state', request, NODE).success)


def walk_to_active(peer):
    def is_active():
        state = peer.call(GetState, 'get_state', GetState.Request(), NODE).current_state.label
        if state in _NEXT:
            change(peer, _NEXT[state])
        return state == 'active'

    peer.spin_until(is_active)


def test_transitions_one_after_the_other_and_many_at_once(peer, filled, node):
    clients = [peer.client(ChangeState, 'change_state', NODE) for _ in range(6)]

    def ask(client, transition):
        request = ChangeState.Request()
        request.transition.id = transition
        return client.call_async(request)

    message = filled(RED)
    with peer.listen(LABELS.format('c0'), Image) as inbox:
        camera = peer.publisher(IMAGES.format('c0'), Image)
        for _ in range(60):
            for transition in (
                Transition.TRANSITION_DEACTIVATE,
                Transition.TRANSITION_ACTIVATE,
            ):
                future = ask(clients[0], transition)
                message.header.stamp = peer.now()
                camera.publish(message)
                peer.spin_until(future.done)
                assert future.result().success
        before = node.log.count('transition refused')
        order = cycle(
            [
                Transition.TRANSITION_ACTIVATE,
                Transition.TRANSITION_DEACTIVATE,
                Transition.TRANSITION_CONFIGURE,
                Transition.TRANSITION_CLEANUP,
                Transition.TRANSITION_CLEANUP,
            ]
        )
        futures = [ask(client, next(order)) for client in clients for _ in range(10)]
        peer.spin_until(lambda: any(future.done() for future in futures))
        # Of those that still wait one would end what the walk began: this is answered after them.
        change(peer, Transition.TRANSITION_CONFIGURE)
        walk_to_active(peer)
        assert node.log.count('transition refused') > before
        inbox.messages.clear()
        peer.ask(IMAGES.format('c0'), message, inbox)
    for client in clients:
        peer.node.destroy_client(client)


def digest(peer):
    status = peer.status('engine', lambda _, values: 'sha256' in values, NODE)
    return {pair.key: pair.value for pair in status.values}['sha256']


def test_a_bundle_that_is_deleted_damaged_or_replaced(
    peer, filled, node, bundle, tiny_bundle, tiny_bundle_of_sizes
):
    """The node runs on with what it has; it refuses what is bad in words, then works."""
    message, topic = filled(RED), IMAGES.format('c0')
    before = digest(peer)
    with peer.listen(LABELS.format('c0'), Image) as inbox:

        def runs_on():
            inbox.messages.clear()
            peer.ask(topic, message, inbox)

        def configure():
            return change(peer, Transition.TRANSITION_CONFIGURE)

        shutil.rmtree(bundle)
        runs_on()
        assert change(peer, Transition.TRANSITION_DEACTIVATE)
        assert change(peer, Transition.TRANSITION_CLEANUP)
        assert not configure()
        assert f'engine bundle {bundle} does not exist' in node.log
        shutil.copytree(tiny_bundle_of_sizes, bundle)
        walk_to_active(peer)
        runs_on()

        for file in bundle.iterdir():
            if file.name != 'manifest.yaml':
                content = file.read_bytes()
                file.write_bytes(content[: len(content) // 2])
        runs_on()
        assert change(peer, Transition.TRANSITION_DEACTIVATE)
        assert change(peer, Transition.TRANSITION_ACTIVATE)
        runs_on()
        assert change(peer, Transition.TRANSITION_DEACTIVATE)
        assert change(peer, Transition.TRANSITION_CLEANUP)
        assert not configure()
        assert node.log.splitlines()[-1].count('cannot configure: ') == 1

        shutil.rmtree(bundle)
        shutil.copytree(tiny_bundle_of_sizes, bundle)
        walk_to_active(peer)
        assert digest(peer) == before
        shutil.rmtree(bundle)
        shutil.copytree(tiny_bundle, bundle)
        runs_on()
        assert digest(peer) == before
        assert change(peer, Transition.TRANSITION_DEACTIVATE)
        assert change(peer, Transition.TRANSITION_CLEANUP)
        walk_to_active(peer)
        runs_on()
        peer.forget_statuses()
        assert digest(peer) != before


def test_after_all_that_the_cameras_and_the_engine_are_well(peer, filled):
    """That which was overloaded, and that which was silent, too."""
    message, cameras = filled(RED), ('c0', 'c1')
    inboxes = [peer.listen(LABELS.format(camera), Image) for camera in cameras]

    def well(*_):
        for camera in cameras:
            send(peer, message, camera)
        peer.spin(0.3)
        parts = ['engine', *(f'camera {camera}' for camera in cameras)]
        statuses = [peer.statuses[f'{NODE[1:]}: {part}'] for part in parts]
        levels = {status.level for status in statuses}
        return levels == {DiagnosticStatus.OK} and all('Hz' in s.message for s in statuses[1:])

    peer.status('engine', well, NODE)
    for inbox in inboxes:
        inbox.close()


def made_at(segment):
    """When a file was made; long ago where it is gone, which may be at any moment."""
    try:
        return segment.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def test_after_sigkill_it_starts_anew_and_what_is_left_is_said(peer, filled, node, start_storm):
    """Most often nothing is: a process that received from a dead one frees its segment."""
    message = filled(RED)
    with peer.listen(LABELS.format('c0'), Image) as inbox:
        peer.ask(IMAGES.format('c0'), message, inbox)
        left = node.segments()
        node.process.kill()
        node.process.wait()
        inbox.messages.clear()

        def are_old():
            """Younger ones might be just being made: the node does not name them."""
            return all(time.time() - made_at(segment) > 3 for segment in left)

        peer.spin_until(are_old)
        new = start_storm()
        peer.ask(IMAGES.format('c0'), message, inbox)
        assert all(s.name in new.log or s in new.segments() for s in left if s.exists()), new.log
        new.end_under_load(signal.SIGTERM, peer, lambda: send(peer, message, 'c0'))
    for segment in left:
        segment.unlink(missing_ok=True)
        segment.with_name(f'{segment.name}_el').unlink(missing_ok=True)

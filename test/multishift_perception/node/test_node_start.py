# SPDX-License-Identifier: Apache-2.0
"""How a node starts: it answers, ends when it is told to, or says why it cannot, in one line."""

from __future__ import annotations

from pathlib import Path
import signal
import time

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import pytest


@pytest.mark.parametrize(
    ('parameters', 'said'),
    [
        (
            {'anomaly_treshold': 0.4},
            'there is no parameter anomaly_treshold; the nearest name is anomaly_threshold',
        ),
        ({'anomaly_threshold': 1.4}, 'anomaly_threshold cannot be 1.4: it must be 0 to 1'),
        (
            {'camera_names': '[front]', 'cameras.frnt.transport': 'raw'},
            'the nearest name is cameras.front.transport',
        ),
        ({'qos': '{'}, "Couldn't parse"),
    ],
)
def test_refused_at_start(start_node, parameters, said):
    node = start_node(**parameters)
    assert node.wait() == 1
    assert said in node.log
    assert 'Traceback' not in node.log
    assert len(node.log.splitlines()) == 1


def hears(node, number):
    """Return whether a process has a handler of its own for a signal."""
    status = Path(f'/proc/{node.process.pid}/status').read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith('SigCgt')]
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('delay_s', [0.0, 0.4, 1.1, 2.9])
def test_a_signal_at_any_moment_of_the_start_ends_it_in_peace(start_node, number, delay_s):
    segments = set(Path('/dev/shm').iterdir())
    node = start_node()
    # Until Python runs the node's first line, nothing of ours can hear a signal.
    while not hears(node, signal.SIGTERM):
        time.sleep(0.005)
    time.sleep(delay_s)
    node.process.send_signal(number)
    assert node.wait() == 0, node.log
    assert 'Traceback' not in node.log
    assert 'ERROR' not in node.log
    of_this = [s for s in set(Path('/dev/shm').iterdir()) - segments if is_of(s, node)]
    assert of_this == []


def is_of(segment, node):
    return str(node.process.pid) in segment.name


@pytest.mark.slow
def test_it_answers_while_the_engine_loads(peer, start_node, tiny_bundle, tmp_path, monkeypatch):
    hang = tmp_path / 'hang'
    hang.touch()
    monkeypatch.setenv('HANG', str(hang))
    node = start_node(
        Path(__file__).with_name('hanging_node.py'),
        remaps=['__node:=loading'],
        engine_bundle=tiny_bundle,
    )

    def state():
        answer = peer.call(GetState, 'get_state', GetState.Request(), node='/loading')
        return answer.current_state.label

    def change(transition):
        request = ChangeState.Request()
        request.transition.id = transition
        return peer.call(ChangeState, 'change_state', request, node='/loading').success

    assert state() == 'configuring'
    peer.status('engine', lambda s, v: v['state'] == 'configuring', node='/loading')
    assert not change(Transition.TRANSITION_CONFIGURE)
    assert not change(Transition.TRANSITION_ACTIVATE)
    assert not peer.set_parameter('engine_bundle', '/other', node='/loading').successful
    hang.unlink()
    peer.status('engine', lambda s, v: v['state'] == 'active', node='/loading')
    assert change(Transition.TRANSITION_DEACTIVATE)
    assert change(Transition.TRANSITION_CLEANUP)
    hang.touch()

    # The one who asks for a state gets its answer when it is reached; others are served meanwhile.
    client = peer.node.create_client(ChangeState, '/loading/change_state')
    peer.spin_until(client.service_is_ready)
    request = ChangeState.Request()
    request.transition.id = Transition.TRANSITION_CONFIGURE
    future = client.call_async(request)
    peer.spin_until(lambda: state() == 'configuring')
    assert not future.done()
    hang.unlink()
    peer.spin_until(future.done)
    assert future.result().success
    assert state() == 'inactive'
    peer.node.destroy_client(client)
    assert node.stop() == 0, node.log
    assert 'Traceback' not in node.log

# SPDX-License-Identifier: Apache-2.0
"""How a node starts: it answers, ends when it is told to, or says why it cannot, in one line."""

from __future__ import annotations

import logging
import os
from pathlib import Path
import signal
import time

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

from multishift_perception.node import shared_memory
from multishift_perception.node.node import PerceptionNode
from multishift_perception.node.run import run


@pytest.fixture
def run_here(monkeypatch, capfd):
    """Return a function that runs the node in this process; one that starts ends at once."""
    # Where no other test listens: of a node that does not start something may linger.
    monkeypatch.setenv('ROS_DOMAIN_ID', '117')
    monkeypatch.setattr(SingleThreadedExecutor, 'spin', lambda _: None)
    package_logger = logging.getLogger('multishift_perception')
    level = package_logger.level

    def run_here(*arguments):
        code = run(['--ros-args', *arguments], lambda: None)
        return code, capfd.readouterr().err

    yield run_here
    package_logger.setLevel(level)


@pytest.mark.parametrize(
    ('parameter', 'said'),
    [
        (
            'anomaly_treshold:=0.4',
            'there is no parameter anomaly_treshold; the nearest name is anomaly_threshold',
        ),
        ('anomaly_threshold:=1.4', 'cannot be 1.4: it must be a number, 0 to 1'),
        ('cameras.camra.transport:=raw', 'the nearest name is cameras.camera.transport'),
        ('qos:={', "Couldn't parse"),
        ('camera_names:=[]', 'camera_names cannot be []: it must name at least one camera'),
        ('camera_names:=[left, left]', 'a camera is named twice'),
        ('camera_names:=["a/b"]', "'a/b' is not a ROS name"),
        ('camera_names:=["1st"]', "'1st' is not a ROS name"),
        ('camera_names:=front', "cannot be 'front': it must be a list of strings"),
        ('engine_restart:=true', 'cannot be True: it must be one of never, reload'),
        ('engine_restart:=off', 'cannot be False: it must be one of never, reload'),
        ("use_sim_time:='true'", "'use_sim_time' to 'true' of type 'STRING', expecting type"),
        (
            'qos_overrides./camera/image_raw.subscription.depth:=-3',
            'subscription.depth cannot be -3: it must be a whole number, 1 to',
        ),
        (
            'qos_overrides./camera/image_raw.subscription.reliability:=perhaps',
            "reliability cannot be 'perhaps': it must be one of reliable, best_effort",
        ),
    ],
)
def test_refused_at_start(run_here, parameter, said):
    code, log = run_here('-p', parameter)
    assert code == 1
    assert said in log
    assert 'Traceback' not in log
    assert len([line for line in log.splitlines() if 'RTPS_' not in line]) == 1


def test_a_refusal_ends_the_process_with_code_1(start_node):
    node = start_node(anomaly_threshold=1.4)
    assert node.wait() == 1
    assert 'cannot start: parameter anomaly_threshold' in node.log
    # Fast DDS may have something to say of what killed processes have left.
    assert len([line for line in node.log.splitlines() if 'RTPS_' not in line]) == 1


def parameter_file(path, section):
    path.write_text(
        f'{section}:\n'
        '  ros__parameters:\n'
        '    exposure: 3\n'
        '    lens: {focal: 3.0}\n'
        '    anomaly_threshold: 0.4\n'
        '    autostart: false\n'
    )
    return str(path)


def test_parameters_that_a_file_gives_to_all_nodes_are_warned_of(run_here, tmp_path):
    text = parameter_file(tmp_path / 'shared.yaml', '/**')
    code, log = run_here('--params-file', text)
    assert code == 0
    assert 'parameter exposure, which a file gives to all nodes, is none of this one' in log
    assert 'parameter lens.focal, which' in log
    assert 'parameter anomaly_threshold, which' not in log


def test_unknown_parameters_that_a_file_gives_to_this_node_are_refused(run_here, tmp_path):
    text = parameter_file(tmp_path / 'own.yaml', 'multishift_perception')
    code, log = run_here('--params-file', text)
    assert code == 1
    assert 'there is no parameter exposure' in log


def test_what_ros_passes_over_is_said(run_here, tmp_path):
    text = parameter_file(tmp_path / 'others.yaml', 'perception')
    code, log = run_here('--params-file', text, '-p', 'autostart:=false')
    assert code == 0
    assert f'{text} gives nothing to /multishift_perception: mend the name' in log
    (tmp_path / 'own.yaml').write_text(
        '/**: {ros__parameters: {autostart: false}}\n'
        'multishift_perception: {ros__parameters: {anomaly_threshold: 0.4}}'
    )
    options = '-p', 'anomaly_threshold:=0.3'
    code, log = run_here('--params-file', str(tmp_path / 'own.yaml'), *options)
    assert code == 0
    assert f'-p anomaly_threshold:=0.3 gives way to {tmp_path / "own.yaml"}: change' in log


def test_values_of_two_types_are_refused(run_here):
    code, log = run_here('-p', 'anomaly_threshold:=1', '-p', 'anomaly_threshold:=0.3')
    assert code == 1
    assert (
        'cannot start: parameter anomaly_threshold is 1 in -p anomaly_threshold:=1 and 0.3' in log
    )


def test_shared_memory_that_a_killed_process_left_is_named(run_here, tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, '_FOLDER', tmp_path)
    segment = tmp_path / 'fastrtps_0123456789abcdef'
    for file in (segment, segment.with_name(f'{segment.name}_el')):
        file.touch()
        os.utime(file, (0, 0))
    code, log = run_here('-p', 'autostart:=false')
    assert code == 0
    assert f'left of processes that were killed: {segment.name} in' in log


def end_by(monkeypatch, act):
    """Have the executor find the context shut down, and do something then."""

    def spin(executor):
        (node,) = executor.get_nodes()
        rclpy.shutdown()
        act(node)

    monkeypatch.setattr(SingleThreadedExecutor, 'spin', spin)


def fail(_):
    raise ValueError('a fault of ours')


def test_a_fault_of_our_own_while_it_ends_is_said(run_here, monkeypatch):
    end_by(monkeypatch, fail)
    with pytest.raises(ValueError, match='a fault of ours'):
        run_here('-p', 'autostart:=false')


def test_what_the_shutdown_itself_raises_is_not(run_here, monkeypatch):
    end_by(monkeypatch, lambda node: node.create_timer(1, print))
    code, log = run_here('-p', 'autostart:=false')
    assert (code, 'Traceback' in log) == (0, False)


@pytest.mark.parametrize(('act', 'expected'), [(fail, 1), (lambda _: None, 0)])
def test_the_code_tells_of_a_fault_where_the_engine_is_left_in_a_call(
    run_here, monkeypatch, act, expected
):
    def leave(code):
        raise SystemExit(code)

    end_by(monkeypatch, act)
    monkeypatch.setattr(PerceptionNode, 'release', lambda _: False)
    monkeypatch.setattr(os, '_exit', leave)
    with pytest.raises(SystemExit) as left:
        run_here('-p', 'autostart:=false')
    assert left.value.code == expected


def hears(node, number):
    """Return whether a process has a handler of its own for a signal."""
    status = Path(f'/proc/{node.process.pid}/status').read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith('SigCgt')]
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('delay_s', [0.0, 0.4, 1.1, 2.9])
def test_a_signal_at_any_moment_of_the_start_ends_it_in_peace(start_node, number, delay_s):
    node = start_node()
    # Until Python runs the node's first line, nothing of ours can hear a signal.
    while not hears(node, signal.SIGTERM):
        assert node.is_alive, node.log
        time.sleep(0.005)
    time.sleep(delay_s)
    node.process.send_signal(number)
    segments = set()
    while node.is_alive:  # it may make its own only now
        segments |= node.segments()
    assert node.wait() == 0, node.log
    assert 'Traceback' not in node.log
    assert 'ERROR' not in node.log
    assert not [segment for segment in segments if segment.exists()]


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
    client = peer.client(ChangeState, 'change_state', '/loading')
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

# SPDX-License-Identifier: Apache-2.0
"""What a CPU vehicle, or a person who only replays, installs: no PyTorch, perhaps no ROS."""

from __future__ import annotations

from pathlib import Path
import subprocess
import sys

import pytest

from multishift_perception.bags import BagWriter
from multishift_perception.engine.probe import ProbeSet

REFUSE = 'import sys; sys.modules.update(dict.fromkeys({missing!r}))\n'
COMMAND = 'from multishift_perception.cli.main import main; sys.argv[1:] = {arguments!r}; main()\n'


def run(
    script: str, *missing: str, arguments: tuple[object, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a script where modules are not installed."""
    text = REFUSE.format(missing=missing) + script.format(arguments=[str(a) for a in arguments])
    return subprocess.run([sys.executable, '-c', text], capture_output=True, text=True)


@pytest.fixture(scope='module')
def bag(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / 'drive.mcap'
    frames = ProbeSet.load(tiny_bundle / 'probe.npz').frames[:, 0]
    with BagWriter(path) as writer:
        for i, frame in enumerate(frames):
            writer.image('/front/image_raw', i * 100_000_000, 'front', frame)
    return path


@pytest.mark.slow
def test_replay_without_torch(tiny_bundle: Path, bag: Path, tmp_path: Path) -> None:
    arguments = ('replay', bag, '--engine', tiny_bundle, '--report', tmp_path)
    done = run(COMMAND, 'torch', arguments=arguments)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'report.html').exists()
    assert 'backend openvino on cpu' in done.stderr


@pytest.mark.slow
def test_engine_commands_without_torch(tiny_bundle: Path) -> None:
    verified = run(COMMAND, 'torch', arguments=('engine', 'verify', tiny_bundle))
    assert verified.returncode == 0, verified.stderr
    of_openvino, of_torch = verified.stdout.splitlines()
    assert ': right: ' in of_openvino
    assert 'torch is not installed: pip install torch' in of_torch
    arguments = ('engine', 'bench', '--seconds', '0.1', tiny_bundle)
    timed = run(COMMAND, 'torch', arguments=arguments)
    assert timed.returncode == 0, timed.stderr
    assert 'they need a torch artifact, and torch' in timed.stdout


@pytest.mark.slow
def test_node_and_demo_import_without_torch() -> None:
    pytest.importorskip('rclpy')
    script = (
        'import multishift_perception.node.node, multishift_perception.demo.graph\n'
        'from multishift_perception.engine import Engine\n'
        'import multishift_perception.node.run\n'
        'Engine.load(None).close()\n'
    )
    done = run(script, 'torch')
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('missing', ['rclpy', 'sensor_msgs'])
def test_node_without_ros(missing: str) -> None:
    done = run('from multishift_perception.node.main import main; sys.exit(main([]))', missing)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith('perception_node: needs ROS 2, which does not load (')
    assert missing in line and "`pip install '.[ros]'` in the checkout" in line


@pytest.mark.slow
def test_training_without_torch(tmp_path: Path) -> None:
    config = Path(__file__).parents[1] / 'config' / 'training' / 'sample.yaml'
    done = run(COMMAND, 'torch', arguments=('train', config, '--out', tmp_path / 'run'))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "`train` needs torch, which is not installed: run `pip install '.[train]'`" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_list_of_networks_without_torch() -> None:
    done = run(COMMAND, 'torch', arguments=('models',))
    assert done.returncode == 1 and done.stdout == ''
    (line,) = done.stderr.splitlines()
    assert "`models` needs torch, which is not installed: run `pip install '.[train]'`" in line

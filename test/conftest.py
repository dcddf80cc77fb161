# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
import os
from pathlib import Path
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from multishift_perception.engine import BACKENDS, Calibration, ClassEntry, Look
from multishift_perception.registry import Registry
from multishift_training.datasets.kinds import KINDS
from multishift_training.export import TARGETS, Plan, export_bundle
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.methods import METHODS
from multishift_training.models import NETWORKS, Prediction, SegmentationModel
from multishift_training.models.input_scale import IMAGENET
from multishift_training.scores import SCORES

# This process and all it starts contact nobody: guard/sitecustomize.py refuses it, and what it
# writes down fails the test that is running.
_GUARD = Path(__file__).parent / 'guard'
_CONTACTS = Path(tempfile.mkdtemp(prefix='contacts.')) / 'contacts.txt'
os.environ['MULTISHIFT_TEST_CONTACTS'] = str(_CONTACTS)
os.environ['PYTHONPATH'] = os.pathsep.join(
    filter(None, (str(_GUARD), os.environ.get('PYTHONPATH')))
)
runpy.run_path(str(_GUARD / 'sitecustomize.py'))

# What a shell starts in the background ignores Ctrl-C, as would all that is started here.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TINY_CLASSES = (
    ClassEntry(name='road', color=(128, 64, 128)),
    ClassEntry(name='sky', color=(70, 130, 180)),
    ClassEntry(name='car', color=(0, 0, 142)),
)


class ColorModel(SegmentationModel):
    """A network whose outputs a test can predict: red is road, blue is sky, green is car.

    The score is the mean of the three channels, 0..1.
    """

    input_scale = IMAGENET
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('mean', torch.tensor(IMAGENET.mean).view(1, 3, 1, 1))
        self.register_buffer('std', torch.tensor(IMAGENET.std).view(1, 3, 1, 1))
        # Exporters want at least one weight.
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        rgb = (image * self.std + self.mean) * self.gain
        return Prediction(rgb[:, [0, 2, 1]], rgb.mean(1), feature=rgb)


def tiny_calibration() -> Calibration:
    """Black is 0, mid grey the operating point, white 255."""
    return Calibration(
        knots=[(0.01, 0.0), (0.5, 128.0), (0.99, 255.0)],
        operating_point=0.5,
        rule='brightness one half',
        dataset='none',
    )


def tiny_look() -> Look:
    """Grey images are at its centre; none lies beyond its border."""
    return Look(np.zeros((1, 6), np.float32), 0.1 * np.eye(6, dtype=np.float32)[None])


def write_tiny_bundle(path: Path, *batches: int) -> Path:
    """Write a bundle of the ColorModel for frames of 64 x 96 pixels."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (2, batches[0], 8, 12, 3), np.uint8)
    calibration = tiny_calibration()
    export_bundle(
        path,
        DeployGraph(ColorModel(), calibration),
        calibration=calibration,
        probes=coarse.repeat(8, axis=2).repeat(8, axis=3),
        targets=Plan(batches=batches),
        look=(tiny_look(), 'no frames'),
        model='color',
        method='none',
        classes=TINY_CLASSES,
        provenance={'made by': 'the test suite'},
    )
    return path


@contextmanager
def _own_registries() -> Iterator[None]:
    registries: tuple[Registry[Any], ...] = (BACKENDS, KINDS, METHODS, NETWORKS, SCORES, TARGETS)
    # Not by looking them up, which would take what a test has installed for what was there.
    before = [(dict(registry._things), registry._is_complete) for registry in registries]
    for registry in registries:
        registry._is_complete = False  # packages are looked for anew
    try:
        yield
    finally:
        for registry, (things, is_complete) in zip(registries, before, strict=True):
            registry._things, registry._is_complete = things, is_complete


@pytest.fixture(scope='session')
def own_registries() -> Callable[[], AbstractContextManager[None]]:
    """Return a function whose block may register what is forgotten afterwards."""
    return _own_registries


@pytest.fixture(autouse=True)
def contacts() -> Iterator[Path]:
    """The file of contacts; whoever causes some on purpose removes it."""
    yield _CONTACTS
    made = _CONTACTS.read_text() if _CONTACTS.exists() else ''
    _CONTACTS.unlink(missing_ok=True)
    assert not made


@pytest.hookimpl(trylast=True)  # after what prints
def pytest_configure(config: pytest.Config) -> None:
    """Oversee the run from the process that prints."""
    if config.pluginmanager.hasplugin('terminalreporter'):
        overseer = runpy.run_path(str(_GUARD / 'overseer.py'))['Overseer'](config)
        config.pluginmanager.register(overseer)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker('gpu'):
            item.add_marker(pytest.mark.skip(reason='needs a GPU'))


@pytest.fixture(scope='session')
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose outputs a test can predict; tests must not change it."""
    return write_tiny_bundle(tmp_path_factory.mktemp('bundles') / 'tiny', 1)


@pytest.fixture(scope='session')
def tiny_bundle_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for two frames per call."""
    return write_tiny_bundle(tmp_path_factory.mktemp('bundles') / 'tiny_of_two', 2)


@pytest.fixture(scope='session')
def tiny_bundle_of_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for one, two or four frames per call."""
    return write_tiny_bundle(tmp_path_factory.mktemp('bundles') / 'tiny_of_sizes', 1, 2, 4)


def load_on_an_older_cpu(*bundles: Path | None) -> None:
    """Load bundles by OpenVINO, and prove them, as on a CPU with AVX2 and no AVX-512."""
    script = (
        'import sys; from pathlib import Path; from multishift_perception.engine import Engine\n'
        'for name in sys.argv[1:]:\n'
        "    Engine.load(Path(name) if name else None, backend='openvino').close()\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', script, *(str(bundle or '') for bundle in bundles)],
        env={**os.environ, 'ONEDNN_MAX_CPU_ISA': 'AVX2'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def older_cpu() -> Callable[..., None]:
    """`load_on_an_older_cpu`."""
    return load_on_an_older_cpu


@pytest.fixture(scope='session')
def ros_domain() -> Iterator[int]:
    """A ROS domain that no other process of tests on this host has: graphs do not mix.

    Its ports are none that the system hands out. The name of a socket is free again once its
    process has ended, in whatever way.
    """
    with socket.socket(socket.AF_UNIX) as claim:
        for domain in range(215, 233):
            try:
                claim.bind(f'\0multishift_perception/tests/domain/{domain}')
            except OSError:  # it is another's
                continue
            yield domain
            return
    pytest.fail('all ROS domains for tests are taken: wait for the end of other runs')


Unshared = Callable[..., 'subprocess.CompletedProcess[str]']


@pytest.fixture
def unshared() -> Unshared:
    """Return a function that runs a shell script which may mount disks that it alone sees."""

    def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', script, 'sh']
        done = subprocess.run(
            [*words, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        if 'unshare failed' in done.stderr:
            pytest.skip('the system lets nobody mount anything')
        return done

    return run


@pytest.fixture
def small_disk(tmp_path: Path, unshared: Unshared) -> Unshared:
    """Return a function that runs `multishift` in a folder on a disk of so many kilobytes.

    What is on the disk in the end stands on the standard output, a line each.
    """
    folder = tmp_path / 'small_disk'
    folder.mkdir()
    script = (
        'kilobytes=$1 python=$2; shift 2; '
        f'mount -t tmpfs -o size="$kilobytes"k none {folder} && cd {folder} || exit; '
        '"$python" -m multishift_perception.cli.main "$@" > /dev/null; code=$?; '
        'find . -mindepth 1; exit $code'
    )

    def run(kilobytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
        return unshared(script, kilobytes, sys.executable, *arguments)

    return run


@pytest.fixture
def small_files() -> Callable[[int], AbstractContextManager[None]]:
    """Return a function whose block may write no more bytes than that to any file."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited

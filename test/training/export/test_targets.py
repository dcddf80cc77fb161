# SPDX-License-Identifier: Apache-2.0
"""The registry of targets: one line and one module each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from multishift_perception.engine import Calibration, read_manifest
from multishift_perception.errors import MultishiftError
from multishift_training import models
from multishift_training.export import Plan, check_plan, export_bundle
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.export.network import Network
from multishift_training.export.targets import TARGETS, TargetEntry, register, target_module
from multishift_training.export.written import Written


@pytest.mark.parametrize('name', TARGETS)
def test_every_module_is_there(name: str) -> None:
    module = target_module(name)
    assert callable(module.check) and callable(module.write)


def test_names_are_listed_without_any_library() -> None:
    script = (
        'import sys; from multishift_training.export import TARGETS, Plan, check_plan\n'
        "heavy = {'torch', 'openvino', 'onnx', 'nncf', 'tensorrt_rtx', 'torch_tensorrt'}\n"
        'print(sorted(heavy & set(sys.modules)), *TARGETS)\n'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.stdout == '[] openvino torch tensorrt tensorrt-rtx\n', done.stderr


def test_unknown_target() -> None:
    with pytest.raises(MultishiftError, match="unknown target 'tpu': choose from openvino, torch"):
        check_plan(Plan(['torch', 'tpu']))


def test_another_target_is_one_line_and_one_module(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_registries: Callable[[], AbstractContextManager[None]],
    calibration: Calibration,
) -> None:
    """Its packages are named, its artifact is loaded by the engine's own backend and proven."""
    checked: list[Plan] = []

    def write(network: Network, plan: Plan, folder: Path) -> Iterator[Written]:
        (one,) = target_module('torch').write(network, plan, folder)
        yield Written('torch', one.file.rename(folder / 'other.pt2'), 'fp32', {}, 'cpu')

    module = SimpleNamespace(check=checked.append, write=write)
    monkeypatch.setitem(sys.modules, 'an_other', module)
    plan = Plan(['an-other'])
    with own_registries():
        register('an-other', TargetEntry('an_other', packages=('pytest',)))
        export_bundle(
            tmp_path / 'bundle',
            DeployGraph(models.create('deeplabv3plus_compact'), calibration),
            calibration=calibration,
            probes=np.random.default_rng(0).integers(0, 256, (1, 1, 32, 32, 3), np.uint8),
            targets=plan,
            model='color',
            method='none',
            provenance={},
        )
    assert checked == [plan]
    manifest = read_manifest(tmp_path / 'bundle')
    (artifact,) = manifest.artifacts
    assert (artifact.file, artifact.backend) == ('other.pt2', 'torch')
    assert artifact.parity is not None and artifact.parity.label_agreement > 0.99
    assert 'pytest ' in manifest.provenance['software']

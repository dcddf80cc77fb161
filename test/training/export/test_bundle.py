# SPDX-License-Identifier: Apache-2.0
"""Builds that meet at one path, and builds that are killed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from multishift_perception.disk import FullDiskError
from multishift_perception.engine.manifest import Calibration, ClassEntry, Manifest, read_manifest
from multishift_perception.errors import MultishiftError
from multishift_perception.files import sha256
from multishift_training.export import bundle, export_bundle
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import IMAGENET

CALIBRATION = Calibration(
    knots=[(-3.0, 0.0), (3.0, 255.0)], operating_point=0.0, rule='made up', dataset='none'
)


class Bright(SegmentationModel):
    """Scores the brightness, times a gain."""

    input_scale = IMAGENET

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(float(gain)))

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        image = image * self.gain
        return Prediction(image, image.mean(1), image)


def build(out: Path, gain: float, graph: DeployGraph | None = None, target: str = 'torch') -> None:
    export_bundle(
        out,
        graph or DeployGraph(Bright(gain), CALIBRATION),
        calibration=CALIBRATION,
        probes=np.random.default_rng(0).integers(0, 256, (1, 1, 16, 16, 3), np.uint8),
        targets=[target],
        model='bright',
        method='none',
        classes=[ClassEntry(name=str(i), color=(i, 0, 0)) for i in range(3)],
        provenance={'gain': gain},
    )


def gain_of_whole(path: Path) -> float:
    """Return which build a bundle is of, after a look at every file."""
    manifest = read_manifest(path)
    assert all(sha256(path / name) == digest for name, digest in manifest.hashes.items())
    assert {file.name for file in path.iterdir()} == {'manifest.yaml', *manifest.hashes}
    return float(manifest.provenance['gain'])


@pytest.mark.slow
@pytest.mark.parametrize('old', [False, True])
def test_two_builds_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    """The one that ends last stays, whole, whatever was there when it began."""
    out = tmp_path / 'bundle'
    if old:
        build(out, 1)
    write = bundle.write_manifest  # type: ignore[attr-defined]

    def write_late(folder: Path, manifest: Manifest) -> None:
        monkeypatch.setattr(bundle, 'write_manifest', write)
        build(out, 3)
        assert gain_of_whole(out) == 3
        write(folder, manifest)

    monkeypatch.setattr(bundle, 'write_manifest', write_late)
    build(out, 2)
    assert gain_of_whole(out) == 2
    assert list(tmp_path.iterdir()) == [out]


def test_artifact_of_another_calibration_is_refused(tmp_path: Path) -> None:
    """Labels and score are right: only the anomaly tells."""
    other = Calibration(**{**CALIBRATION.model_dump(), 'knots': [(-3.0, 0.0), (9.0, 255.0)]})
    with pytest.raises(MultishiftError, match='does not calibrate as its manifest says'):
        build(tmp_path / 'bundle', 1, DeployGraph(Bright(1), other))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_killed_build_leaves_the_old_bundle_whole(tmp_path: Path) -> None:
    out = tmp_path / 'bundle'
    build(out, 1)
    command = [sys.executable, __file__, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == 'artifacts are written\n'
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert gain_of_whole(out) == 1
    # What it had written lies beside the bundle, not in a folder of the system's.
    (left,) = set(tmp_path.iterdir()) - {out}
    assert (left / 'bundle/torch.pt2').is_file()
    # The next build removes it.
    build(out, 3)
    assert gain_of_whole(out) == 3
    assert list(tmp_path.iterdir()) == [out]


def _stop_before_the_manifest(out: Path) -> None:
    def wait(folder: Path, manifest: Manifest) -> None:
        print('artifacts are written', flush=True)
        time.sleep(600)

    bundle.write_manifest = wait  # type: ignore[assignment, attr-defined]
    build(out, 2)


if __name__ == '__main__':
    _stop_before_the_manifest(Path(sys.argv[1]))


@pytest.mark.parametrize('target', ['torch', 'openvino'])
def test_full_disk(
    target: str, tmp_path: Path, small_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    """Also where the library would end the process, or says nothing of the disk."""
    with small_files(1500), pytest.raises(FullDiskError) as caught:
        build(tmp_path / 'bundle', 2, target=target)
    assert str(caught.value).startswith(f'{tmp_path / "bundle"} cannot be written: no room')
    assert list(tmp_path.iterdir()) == []

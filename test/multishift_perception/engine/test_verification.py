# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import shutil

import numpy as np
import pytest
import yaml

from multishift_perception.engine import selection, verification
from multishift_perception.engine.engine import open_artifact
from multishift_perception.engine.manifest import Manifest, read_manifest
from multishift_perception.engine.probe import ProbeSet
from multishift_perception.engine.selection import Choice
from multishift_perception.engine.verification import verify
from multishift_perception.errors import MultishiftError
from multishift_perception.files import sha256

ENGINE = 'tensorrt-rtx-sm89.engine'
NEEDS = {
    'flavour': 'tensorrt_rtx',
    'version': '1.7.1',
    'compute_capability': '8.9',
    'platform': 'linux_x86_64',
}


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / 'copy'))


def edit(bundle: Path, change) -> None:
    path = bundle / 'manifest.yaml'
    manifest = yaml.safe_load(path.read_text())
    change(manifest)
    path.write_text(yaml.safe_dump(manifest, sort_keys=False))


@pytest.fixture
def ahead_of_time(bundle: Path) -> Path:
    """A bundle whose middle artifact was built for a GPU that the building machine lacked."""
    (bundle / ENGINE).write_bytes(b'engine')
    entry = {
        'backend': 'tensorrt',
        'file': ENGINE,
        'sha256': sha256(bundle / ENGINE),
        'companions': {},
        'precision': 'fp16',
        'needs': {'device': 'a GPU'},
        'tensorrt': NEEDS,
        'parity': None,
    }
    edit(bundle, lambda manifest: manifest['artifacts'].insert(1, entry))
    return bundle


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the fake engine fit, and do what the bundle's openvino artifact does."""
    real = selection.obstacle
    monkeypatch.setattr(
        selection, 'obstacle', lambda a, place, i: None if a.tensorrt else real(a, place, i)
    )

    def opened(bundle: Path, manifest: Manifest, choice: Choice):
        if choice.artifact.tensorrt is not None:
            by_openvino = manifest.artifact('openvino')
            assert by_openvino is not None
            choice = Choice(by_openvino, 'cpu', ())
        return open_artifact(bundle, manifest, choice)

    monkeypatch.setattr(verification, 'open_artifact', opened)


def test_right_bundle_stays_as_it_is(bundle: Path) -> None:
    before = (bundle / 'manifest.yaml').read_bytes()
    verdicts = verify(bundle)
    assert [v.state for v in verdicts] == ['right', 'right']
    assert [v.device for v in verdicts] == ['cpu', 'cpu']
    for verdict in verdicts:
        assert verdict.proof is not None
        assert verdict.proof.parity.label_agreement > 0.99
        assert verdict.proof.anomaly_error <= 1
    assert (bundle / 'manifest.yaml').read_bytes() == before


def test_artifact_of_another_machine_is_skipped(ahead_of_time: Path) -> None:
    before = (ahead_of_time / 'manifest.yaml').read_bytes()
    verdicts = verify(ahead_of_time)
    assert [v.state for v in verdicts] == ['right', 'skipped', 'right']
    assert 'no NVIDIA driver' in verdicts[1].reason
    assert (ahead_of_time / 'manifest.yaml').read_bytes() == before


@pytest.mark.parametrize('written', ['null', '', '~'])
def test_fills_in_the_missing_parity_and_nothing_else(
    ahead_of_time: Path, gpu: None, written: str
) -> None:
    path = ahead_of_time / 'manifest.yaml'
    # A comment, and a parity of null elsewhere in the text, must both survive.
    text = '# by hand: parity: null\n' + path.read_text()
    path.write_text(text.replace('parity: null\n-', f'parity: {written}'.rstrip() + '\n-'))
    before = path.read_text().splitlines()
    verify(ahead_of_time)
    after = path.read_text().splitlines()
    changed = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert len(changed) == 1
    assert after[changed[0]].startswith('  parity: {label_agreement: ')
    parity = read_manifest(ahead_of_time).artifacts[1].parity
    assert parity is not None
    assert parity.label_agreement > 0.99


def test_fault_elsewhere_keeps_the_manifest(ahead_of_time: Path, gpu: None) -> None:
    (ahead_of_time / 'torch.pt2').unlink()
    verdicts = verify(ahead_of_time)
    assert [v.state for v in verdicts] == ['right', 'right', 'fault']
    assert 'torch.pt2 is missing' in verdicts[2].reason
    assert read_manifest(ahead_of_time).artifacts[1].parity is None


def test_wrong_calibration_is_a_fault(bundle: Path) -> None:
    """Manifests have no hash of their own: a calibration that is not the graph's must show."""

    def shift(manifest) -> None:
        for knot in manifest['calibration']['knots']:
            knot[1] = knot[1] / 2

    edit(bundle, shift)
    for verdict in verify(bundle):
        assert verdict.state == 'fault'
        assert 'does not calibrate as its manifest says' in verdict.reason


def test_swapped_scores_are_a_fault(bundle: Path) -> None:
    probe = ProbeSet.load(bundle / 'probe.npz')
    replace(probe, score=np.roll(probe.score, 5)).save(bundle / 'probe.npz')
    digest = sha256(bundle / 'probe.npz')
    edit(bundle, lambda manifest: manifest['probe'].update(sha256=digest))
    for verdict in verify(bundle):
        assert verdict.state == 'fault'
        assert 'does not compute what was trained' in verdict.reason


def test_changed_probe(bundle: Path) -> None:
    (bundle / 'probe.npz').write_bytes(b'')
    with pytest.raises(MultishiftError, match=r'probe\.npz has SHA-256'):
        verify(bundle)


def test_nothing_that_runs_here(ahead_of_time: Path) -> None:
    edit(ahead_of_time, lambda manifest: manifest.update(artifacts=manifest['artifacts'][1:2]))
    with pytest.raises(MultishiftError, match='nothing in .* runs on this machine; .*driver'):
        verify(ahead_of_time)

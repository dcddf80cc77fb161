# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import logging
import math
from pathlib import Path
import shutil
from typing import Any

import numpy as np
import pytest
import yaml

from multishift_perception.engine import Engine
from multishift_perception.engine.manifest import read_manifest
from multishift_perception.errors import MultishiftError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / 'copy'))


def edit(bundle: Path, change) -> None:
    path = bundle / 'manifest.yaml'
    manifest = yaml.safe_load(path.read_text())
    change(manifest)
    path.write_text(yaml.safe_dump(manifest))


def change_probe(bundle: Path, **changed: np.ndarray) -> None:
    """Replace some of the arrays of the probe frames, with the right hash."""
    from multishift_perception.engine.probe import ProbeSet
    from multishift_perception.files import sha256

    replace(ProbeSet.load(bundle / 'probe.npz'), **changed).save(bundle / 'probe.npz')
    digest = sha256(bundle / 'probe.npz')
    edit(bundle, lambda manifest: manifest['probe'].update(sha256=digest))


def frame(color: tuple[int, int, int]) -> np.ndarray:
    return np.full((1, 64, 96, 3), color, np.uint8)


@pytest.mark.parametrize('backend', ['openvino', 'torch'])
class TestEveryBackend:
    def test_computes_the_deploy_graph(self, tiny_bundle: Path, backend: str) -> None:
        with Engine.load(tiny_bundle, backend=backend) as engine:
            assert engine.backend == backend
            assert engine.input_shape == (1, 64, 96)
            for color, label in [((255, 0, 0), 0), ((0, 0, 255), 1), ((0, 255, 0), 2)]:
                output = engine.infer(frame(color))
                assert output.label.dtype == np.uint8
                assert np.all(output.label == label)
                assert np.allclose(output.score, 1 / 3, atol=1e-3)
                assert np.all(output.anomaly == 84)  # 128 * (1/3 - 0.01) / 0.49
            assert np.all(engine.infer(frame((255, 255, 255))).anomaly == 255)
            assert np.all(engine.infer(frame((0, 0, 0))).anomaly == 0)

    def test_outputs_belong_to_the_caller(self, tiny_bundle: Path, backend: str) -> None:
        with Engine.load(tiny_bundle, backend=backend) as engine:
            first = engine.infer(frame((255, 255, 255)))
            engine.infer(frame((0, 0, 0)))
            assert np.all(first.anomaly == 255)

    def test_truncated_artifact_then_a_whole_one(self, bundle: Path, backend: str) -> None:
        from multishift_perception.files import sha256

        file = bundle / {'openvino': 'openvino.xml', 'torch': 'torch.pt2'}[backend]
        whole = file.read_bytes()

        def rehash(manifest) -> None:
            for artifact in manifest['artifacts']:
                if artifact['backend'] == backend:
                    artifact['sha256'] = sha256(file)

        file.write_bytes(whole[:500])
        edit(bundle, rehash)
        with pytest.raises(MultishiftError, match=file.name):
            Engine.load(bundle, backend=backend)
        # The same process may try again.
        file.write_bytes(whole)
        edit(bundle, rehash)
        Engine.load(bundle, backend=backend).close()


@pytest.mark.parametrize('backend', ['openvino', 'torch'])
class TestSeveralBatchSizes:
    def test_calls_of_each_size_compute_the_same(
        self, tiny_bundle_of_sizes: Path, backend: str
    ) -> None:
        rng = np.random.default_rng(3)
        frames = rng.integers(0, 256, (4, 64, 96, 3), np.uint8)
        with Engine.load(tiny_bundle_of_sizes, backend=backend) as engine:
            assert engine.batches == (1, 2, 4)
            assert engine.input_shape == (4, 64, 96)
            whole = engine.infer(frames)
            for batch in (1, 2):
                parts = [engine.infer(frames[i : i + batch]) for i in range(0, 4, batch)]
                for name in ('label', 'anomaly'):
                    joined = np.concatenate([getattr(part, name) for part in parts])
                    np.testing.assert_array_equal(joined, getattr(whole, name))

    def test_another_size_is_refused(self, tiny_bundle_of_sizes: Path, backend: str) -> None:
        with (
            Engine.load(tiny_bundle_of_sizes, backend=backend) as engine,
            pytest.raises(ValueError, match=r'\(1 or 2 or 4, 64, 96, 3\)'),
        ):
            engine.infer(np.zeros((3, 64, 96, 3), np.uint8))

    def test_every_size_is_proven(
        self, tiny_bundle_of_sizes: Path, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A backend that is wrong in calls of four alone."""
        from multishift_perception.engine.openvino_backend import OpenVinoBackend
        from multishift_perception.engine.torch_backend import TorchBackend

        kind: Any = {'openvino': OpenVinoBackend, 'torch': TorchBackend}[backend]
        run = kind.run

        def wrong(self, frames):
            return run(self, frames[::-1].copy() if len(frames) == 4 else frames)

        monkeypatch.setattr(kind, 'run', wrong)
        with pytest.raises(MultishiftError, match='does not compute what was trained'):
            Engine.load(tiny_bundle_of_sizes, backend=backend)


@pytest.mark.parametrize(
    ('batches', 'sizes'),
    [((1,), [1, 1, 1, 1, 1]), ((1, 2, 4), [1, 2, 2, 4, 4]), ((2,), [2, 2, 2, 2, 2])],
)
def test_a_call_has_as_many_frames_as_fill_it(batches, sizes, tiny_bundle: Path) -> None:
    with Engine.load(tiny_bundle) as engine:
        engine.batches = batches
        assert [engine.call_size(waiting) for waiting in (1, 2, 3, 4, 5)] == sizes


def test_a_manifest_that_says_nothing_of_sizes_has_one(bundle: Path) -> None:
    """As those that were built before bundles had several."""
    edit(bundle, lambda manifest: [a.pop('batches') for a in manifest['artifacts']])
    with Engine.load(bundle) as engine:
        assert engine.batches == (1,)


def test_whoever_measures_calls_is_around_each(tiny_bundle: Path) -> None:
    from contextlib import contextmanager

    calls: list[str] = []

    @contextmanager
    def measured():
        calls.append('begin')
        yield
        calls.append('end')

    with Engine.load(tiny_bundle) as engine:
        engine.around_call = measured
        engine.infer(frame((0, 0, 0)))
    assert calls == ['begin', 'end']


def test_auto_says_what_it_took(tiny_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Engine.load(tiny_bundle) as engine:
        assert engine.backend == 'openvino'
    assert 'backend openvino on cpu' in caplog.text


def test_wrong_frame_shape(tiny_bundle: Path) -> None:
    with Engine.load(tiny_bundle) as engine, pytest.raises(ValueError, match=r'1, 64, 96, 3'):
        engine.infer(np.zeros((1, 32, 96, 3), np.uint8))


def test_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match='nowhere does not exist'):
        Engine.load(tmp_path / 'nowhere')
    with pytest.raises(MultishiftError, match='file is a file: give the path of a bundle'):
        (tmp_path / 'file').touch()
        Engine.load(tmp_path / 'file')


def test_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match=r'no manifest\.yaml.*engine build'):
        Engine.load(tmp_path)


@pytest.mark.parametrize('name', ['openvino.xml', 'openvino.bin', 'torch.pt2', 'probe.npz'])
def test_changed_file(bundle: Path, name: str) -> None:
    file = bundle / name
    file.write_bytes(file.read_bytes() + b'x')
    with pytest.raises(MultishiftError, match=f'{name} has SHA-256 .* its manifest says'):
        Engine.load(bundle)


def test_missing_file(bundle: Path) -> None:
    (bundle / 'openvino.bin').unlink()
    with pytest.raises(MultishiftError, match=r'openvino\.bin is missing'):
        Engine.load(bundle)


def test_unknown_key(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest.update(colour='red'))
    with pytest.raises(MultishiftError, match='colour'):
        read_manifest(bundle)


def test_wrong_value_names_the_field(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest['input'].update(height='tall'))
    with pytest.raises(MultishiftError, match=r'input\.height'):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'schema_version': 'one'}, r'schema_version \(line \d+\) is one, expected 1'),
        ({'calibration': {'knots': [[-1.0, math.nan], [2.0, 255.0]]}}, 'is .nan'),
        ({'calibration': {'operating_point': math.inf}}, r'operating_point .*is .inf'),
        (
            {'calibration': {'operating_point': 1e3}},
            r'manifest\.yaml: calibration\.operating_point \(line \d+\): 1000 lies outside the '
            r'knots, 0\.01 to 0\.99: build the bundle again$',
        ),
    ],
)
def test_values_that_no_engine_has(bundle: Path, change: dict[str, Any], said: str) -> None:
    def put(manifest: dict[str, Any]) -> None:
        for key, value in change.items():
            manifest[key] = manifest[key] | value if isinstance(value, dict) else value

    edit(bundle, put)
    with pytest.raises(MultishiftError, match=said):
        read_manifest(bundle)


def test_a_size_that_its_probe_frames_do_not_have(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest['input'].update(height=10**9))
    with pytest.raises(MultishiftError, match='has an input of 1 x 1000000000 x 96 x 3, and its'):
        Engine.load(bundle)


def test_newer_schema(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest.update(schema_version=7))
    with pytest.raises(MultishiftError, match='schema_version 7.*update multishift_perception'):
        read_manifest(bundle)


def test_manifest_cannot_reach_outside(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest['artifacts'][0].update(file='../secret'))
    with pytest.raises(
        MultishiftError,
        match=r'artifacts\[0\]\.file \(line \d+\) is \.\./secret.*build the bundle again',
    ):
        read_manifest(bundle)


def test_broken_yaml(bundle: Path) -> None:
    (bundle / 'manifest.yaml').write_text('a: [')
    with pytest.raises(MultishiftError, match='not valid YAML'):
        read_manifest(bundle)


def test_backend_the_bundle_lacks(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest['artifacts'].pop(0))
    with pytest.raises(MultishiftError, match="no artifact for backend 'openvino'.*'torch'"):
        Engine.load(bundle, backend='openvino')


def test_swapped_network_fails_the_probe(bundle: Path, tmp_path: Path) -> None:
    """Right hashes, wrong results: probe outputs that the artifact does not reproduce."""
    from multishift_perception.engine.probe import ProbeSet

    change_probe(bundle, score=ProbeSet.load(bundle / 'probe.npz').score[::-1])
    with pytest.raises(MultishiftError, match='does not compute what was trained'):
        Engine.load(bundle)


@pytest.mark.parametrize('backend', ['openvino', 'torch'])
def test_a_bundle_from_before_there_was_confidence_runs(
    bundle: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multishift_perception.engine.openvino_backend import OpenVinoBackend
    from multishift_perception.engine.probe import ProbeSet
    from multishift_perception.engine.torch_backend import TorchBackend
    from multishift_perception.files import sha256
    from multishift_perception.pipeline import Pipeline

    kind: Any = {'openvino': OpenVinoBackend, 'torch': TorchBackend}[backend]
    run = kind.run
    monkeypatch.setattr(kind, 'run', lambda self, f: run(self, f)._replace(confidence=None))
    probe = ProbeSet.load(bundle / 'probe.npz')
    assert probe.confidence.size
    with pytest.raises(MultishiftError, match='the confidence on the probe frames is missing'):
        Engine.load(bundle, backend=backend)
    np.savez(
        bundle / 'probe.npz',
        frames=probe.frames,
        label=probe.label,
        score=probe.score,
        look=probe.look,
    )
    digest = sha256(bundle / 'probe.npz')
    edit(bundle, lambda manifest: manifest['probe'].update(sha256=digest))
    with pytest.raises(MultishiftError, match='has confidence: true, and the graph .* gives none'):
        Engine.load(bundle, backend=backend)
    edit(bundle, lambda manifest: manifest.pop('confidence'))
    with Engine.load(bundle, backend=backend) as engine:
        assert not engine.manifest.confidence
        (output,) = Pipeline(engine).run([frame((0, 0, 0))[0]])
        with pytest.raises(AttributeError, match='not asked'):
            _ = output.confidence


def test_a_confidence_that_the_manifest_does_not_tell_of_is_refused(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest.update(confidence=False))
    with pytest.raises(MultishiftError, match='has confidence: false, and the graph .* gives one'):
        Engine.load(bundle)


def test_a_confidence_that_the_probe_frames_know_nothing_of_is_refused(bundle: Path) -> None:
    from multishift_perception.engine.probe import ProbeSet

    probe = ProbeSet.load(bundle / 'probe.npz')
    change_probe(bundle, confidence=probe.confidence[:, :, :0])
    edit(bundle, lambda manifest: manifest.update(confidence=False))
    with pytest.raises(MultishiftError, match='was not there when the bundle was built'):
        Engine.load(bundle)


def test_a_confidence_that_is_off_fails_the_probe(bundle: Path) -> None:
    from multishift_perception.engine.probe import ProbeSet

    change_probe(bundle, confidence=255 - ProbeSet.load(bundle / 'probe.npz').confidence)
    with pytest.raises(MultishiftError, match=r'confidence on the probe frames differs by \d+\.'):
        Engine.load(bundle)


def test_pickled_object_in_exported_program_is_refused(bundle: Path) -> None:
    """The archive declares a pickled weight: torch would run whatever it holds."""
    import json
    import zipfile

    from multishift_perception.files import sha256

    file = bundle / 'torch.pt2'
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(n for n in members if n.endswith('weights_config.json'))
    config = json.loads(members[name])
    next(iter(config['config'].values()))['use_pickle'] = True
    members[name] = json.dumps(config).encode()
    with zipfile.ZipFile(file, 'w') as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    digest = sha256(file)

    def rehash(manifest) -> None:
        manifest['artifacts'][1]['sha256'] = digest

    edit(bundle, rehash)
    with pytest.raises(MultishiftError, match='can run code when loaded'):
        Engine.load(bundle, backend='torch')


def test_exported_program_holds_no_source_paths(tiny_bundle: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tiny_bundle / 'torch.pt2') as archive:
        (graph,) = [name for name in archive.namelist() if name.endswith('models/model.json')]
        text = archive.read(graph).decode()
    assert 'conv' in text or 'mul' in text
    assert 'stack_trace' not in text
    assert '.py' not in text

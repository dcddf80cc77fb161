# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
import shutil

from click.testing import CliRunner
import pytest
import yaml

from multishift_perception.cli import main as cli
from multishift_perception.errors import MultishiftError
from multishift_perception.files import sha256


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(cli.multishift, ['engine', *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / 'copy'))


@pytest.fixture
def for_a_gpu(bundle: Path) -> Path:
    """A bundle whose first artifact is for a GPU that no machine has."""
    path = bundle / 'manifest.yaml'
    manifest = yaml.safe_load(path.read_text())
    manifest['artifacts'][0].update(
        backend='tensorrt',
        parity=None,
        tensorrt={
            'flavour': 'tensorrt_rtx',
            'version': '1.6.1',
            'compute_capability': '1.0',
            'platform': 'linux_x86_64',
        },
    )
    path.write_text(yaml.safe_dump(manifest))
    return bundle


class TestInspect:
    @pytest.mark.slow
    def test_what_does_not_run_here(self, for_a_gpu: Path) -> None:
        text = run('inspect', for_a_gpu).stdout
        assert '\n  here         cannot run on the GPU: ' in text
        assert '\n  parity       not measured yet: run `multishift engine verify`' in text

    def test_one_screen(self, tiny_bundle: Path) -> None:
        lines = run('inspect', tiny_bundle).stdout.splitlines()
        assert len(lines) < 40
        text = '\n'.join(lines)
        for words in (
            sha256(tiny_bundle / 'manifest.yaml'),
            'color, training: none',
            '1 x 64 x 96',
            '3: road, sky, car',
            'score 0.5 is anomaly 128: brightness one half',
            'openvino fp32, openvino.xml',
            'runs on cpu',
            'the test suite',
        ):
            assert words in text

    def test_json(self, tiny_bundle: Path) -> None:
        facts = json.loads(run('inspect', tiny_bundle, '--json').stdout)
        assert facts['digest'] == sha256(tiny_bundle / 'manifest.yaml')
        assert facts['bytes'] == sum(f.stat().st_size for f in tiny_bundle.iterdir())
        by_openvino, by_torch = facts['artifacts']
        assert (by_openvino['device'], by_openvino['obstacle']) == ('cpu', '')
        weights = tiny_bundle / 'openvino.bin'
        network = tiny_bundle / 'openvino.xml'
        assert by_openvino['bytes'] == network.stat().st_size + weights.stat().st_size
        assert by_torch['parity']['label_agreement'] == 1

    def test_missing_file(self, bundle: Path) -> None:
        (bundle / 'torch.pt2').unlink()
        result = run('inspect', bundle, code=1)
        assert isinstance(result.exception, MultishiftError)
        assert 'torch.pt2 is missing' in str(result.exception)


class TestVerify:
    def test_right(self, tiny_bundle: Path) -> None:
        lines = run('verify', tiny_bundle).stdout.splitlines()
        assert [line.split(':')[0] for line in lines] == [
            'openvino.xml (openvino fp32) on cpu',
            'torch.pt2 (torch fp32) on cpu',
        ]
        assert all('of labels agree' in line for line in lines)

    def test_what_does_not_run_here_is_skipped(self, for_a_gpu: Path) -> None:
        first, second = run('verify', for_a_gpu).stdout.splitlines()
        start = 'openvino.xml (tensorrt fp32): skipped, it cannot run on the GPU: '
        assert first.startswith(start)
        assert second.startswith('torch.pt2 (torch fp32) on cpu: right')

    def test_a_line_for_every_fault(self, bundle: Path) -> None:
        (bundle / 'openvino.bin').unlink()
        (bundle / 'torch.pt2').write_bytes(b'')
        result = run('verify', bundle, code=1)
        first, second = result.stderr.splitlines()
        assert first.startswith('multishift: ')
        assert 'openvino.bin is missing' in first
        assert 'torch.pt2 has SHA-256' in second
        assert result.stdout.count('FAULT') == 2

    def test_json(self, bundle: Path) -> None:
        (bundle / 'torch.pt2').write_bytes(b'')
        by_openvino, by_torch = json.loads(run('verify', bundle, '--json', code=1).stdout)
        assert by_openvino['state'] == 'right'
        assert by_openvino['parity']['label_agreement'] > 0.99
        assert by_openvino['anomaly_error'] <= 1
        assert (by_torch['state'], by_torch['parity']) == ('fault', None)


class TestBench:
    @pytest.mark.slow
    def test_every_backend_in_processes_of_their_own(
        self, tiny_bundle: Path, tiny_bundle_of_two: Path
    ) -> None:
        """Two bundles, three engines: everything that is measured is there and fits together."""
        done = run('bench', tiny_bundle, tiny_bundle_of_two, '--seconds', '0.05', '--json')
        rows = json.loads(done.stdout)
        assert [(row['backend'], row['batch']) for row in rows] == [
            ('openvino', 1),
            ('torch', 1),
            ('openvino', 2),
            ('torch', 2),
        ]
        for row in rows:
            assert 0 < row['p50_ms'] <= row['p99_ms']
            assert row['calls'] >= 10
            assert row['frames_per_second'] > 0
            assert row['cpu_ms_per_frame'] > 0
            assert row['memory_bytes'] > 2e7
            assert row['gpu_memory_bytes'] is None
            low, high = row['times_torch_range']
            assert low <= row['times_torch'] <= high
            # No convolution or product in it; 64 x 96 pixels, 9 bytes each, and some weights.
            assert row['roofline']['flops'] == 0
            assert row['roofline']['bytes'] >= row['batch'] * 64 * 96 * 9
            assert row['roofline']['share_of_peak'] is None
            assert row['shrinks_on'] == 'cpu'
            assert list(row['stages_ms']) == ['shrink', 'engine', 'enlarge']
            assert min(row['stages_ms'].values()) > 0
        assert rows[1]['times_torch_range'] == [1, 1]

    @pytest.mark.slow
    def test_table(self, tiny_bundle: Path) -> None:
        done = run('bench', tiny_bundle, '--backend', 'openvino', '--seconds', '0.05')
        header, row, stages, roofline = done.stdout.splitlines()
        assert header.split()[:2] == ['engine', 'batch']
        assert row.startswith('tiny openvino fp32 cpu')
        assert ': a picture of 1920 x 1080, shrunk on cpu: shrink ' in stages
        assert 'on CPU: its peak is not known' in roofline

    def test_backend_the_bundle_lacks(self, tiny_bundle: Path) -> None:
        result = run('bench', tiny_bundle, '--backend', 'tensorrt', code=1)
        assert "no artifact for backend 'tensorrt'" in str(result.exception)

    def test_broken_engine(self, bundle: Path) -> None:
        (bundle / 'openvino.xml').write_bytes(b'<net/>')
        result = run('bench', bundle, '--backend', 'openvino', code=1)
        assert isinstance(result.exception, MultishiftError)
        assert 'openvino.xml has SHA-256' in str(result.exception)

# SPDX-License-Identifier: Apache-2.0
"""What proves the GPU path, run on a CPU: so that a GPU's minutes are not its first trial."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
import importlib
import json
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any
import zipfile

import pytest
import yaml

from multishift_training import models

SCRIPTS = Path(__file__).parent / 'gpu'

pytestmark = pytest.mark.gpu_dry


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Return what imports the scripts' modules; they go with the test."""
    monkeypatch.syspath_prepend(SCRIPTS)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name.split('.')[0] in ('proof', 'pack', 'machine', 'bringing', 'contrastive_loss'):
            del sys.modules[name]


def run(*arguments: str | Path, seconds: float = 400) -> subprocess.CompletedProcess[str]:
    """Run a script as `make` does."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


@pytest.mark.slow
def test_whole_runs_on_a_cpu(scripts: Callable[[str], Any], tmp_path: Path) -> None:
    done = run(SCRIPTS, '--cpu', '--out', tmp_path)
    content = json.loads((tmp_path / 'gpu.json').read_text())
    states = {name: (part['state'], part['word']) for name, part in content['parts'].items()}
    assert tuple(states) == scripts('proof.runner').NAMES
    absent = {('absent', states[name][1]) for name in ('inductor', 'tensorrt')}
    assert set(states.values()) <= {('done', ''), *absent}, states
    assert done.returncode == 0, done.stderr[-2000:]
    parts = content['parts']
    assert parts['engine']['figures']['runs on'] == 'cpu'
    assert parts['loop']['figures']['... the same bit for bit'] is True
    assert parts['faults']['figures']['GPU lost']['a call before'] == 'runs'
    assert 'absent' in parts['steps']['figures']['published code']
    page = (tmp_path / 'gpu.md').read_text()
    assert page.startswith('**No GPU: sizes are tiny')
    assert all(f'| {name} | ' in page for name in states)


def options(folder: Path, *parts: str) -> Namespace:
    return Namespace(
        out=folder, part=parts, cpu=True, seconds=60.0, multishiftseg=None, detectron2=None
    )


def test_networks_for_vehicles_are_timed_before_all_others(scripts: Callable[[str], Any]) -> None:
    """Time may end before the others come."""
    first = set(scripts('proof.networks').FOR_VEHICLES)
    cases = scripts('proof.parts.latency')._cases(Namespace(on_gpu=True))
    names = [name for name, *_ in cases]
    turn = names.index(next(name for name in names if name not in first))
    assert set(names[:turn]) == first
    assert set(names[turn:]) == set(models.names_alone()) - first


def test_part_that_fails_leaves_the_others(
    scripts: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(settings: object, note: Callable[[str, object], None]) -> None:
        note('before', 1)
        raise ValueError('broken\nlimb')

    monkeypatch.setattr(scripts('proof.parts.loss'), 'run', fail)
    code = scripts('proof.runner').prove(
        options(tmp_path, 'metrics', 'loss', 'transfers'), prepared=[]
    )
    assert code == 1
    parts = json.loads((tmp_path / 'gpu.json').read_text())['parts']
    assert [part['state'] for part in parts.values()] == ['done', 'failed', 'done']
    assert parts['loss']['word'] == 'ValueError: broken limb'
    assert 'in fail' in parts['loss']['traceback']
    assert parts['loss']['figures'] == {'before': 1}
    assert '| loss | failed: ValueError: broken limb |' in (tmp_path / 'gpu.md').read_text()


def test_part_that_takes_too_long_is_cut_and_keeps_what_it_found(
    scripts: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def linger(settings: object, note: Callable[[str, object], None]) -> None:
        note('before', 1)
        try:
            time.sleep(600)
        except Exception:  # what a part does about its own faults does not keep it alive
            time.sleep(600)

    runner = scripts('proof.runner')
    monkeypatch.setattr(runner, '_ON_CPU', 2.1)
    monkeypatch.setattr(scripts('proof.parts.loss'), 'run', linger)
    assert runner.prove(options(tmp_path, 'loss', 'transfers'), prepared=[]) == 1
    parts = json.loads((tmp_path / 'gpu.json').read_text())['parts']
    assert [part['state'] for part in parts.values()] == ['cut', 'done']
    assert parts['loss']['figures'] == {'before': 1}


def test_library_that_is_missing_fails_its_part_alone(
    scripts: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'proof.parts.loss', None)
    scripts('proof.runner').prove(options(tmp_path, 'loss', 'transfers'), prepared=[])
    parts = json.loads((tmp_path / 'gpu.json').read_text())['parts']
    assert [part['state'] for part in parts.values()] == ['failed', 'done']
    assert parts['loss']['word'].startswith('ModuleNotFoundError: ')


class TestPack:
    @pytest.fixture
    def pack(self, scripts: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
        """The script, with wheels of 1 MiB in place of the registry's."""
        module = scripts('pack')

        def download(requirement: str, folder: Path) -> list[Path]:
            wheel = folder / f'{requirement.partition("==")[0]}-1.0-py3-none-any.whl'
            wheel.write_bytes(bytes(2**20 * (30 if 'scipy' in requirement else 1)))
            return [wheel]

        monkeypatch.setattr(module, 'download', download)
        monkeypatch.setattr(module, 'checkout_size', lambda: 9 * 2**20)
        return module

    def test_keeps_the_limit_and_says_what_is_left_out(
        self, pack: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pack.main(['--out', str(tmp_path), '--limit-mib', '40', '--skip', 'jinja2'])
        said = capsys.readouterr().out
        assert 'left out: scipy: 30.0 MiB, 12.0 MiB are left' in said
        assert 'left out: jinja2: skipped' in said
        assert 'left out: tensorrt-rtx-cu13: more than 300 MiB' in said
        assert said.endswith(f'{tmp_path}: 19.0 MiB, with the checkout 28.0 of 40 MiB\n')
        assert len(list(tmp_path.glob('*.whl'))) == 19

    def test_takes_images_along_or_refuses(self, pack: Any, tmp_path: Path) -> None:
        images = tmp_path / 'camvid'
        images.mkdir()
        (images / 'a.png').write_bytes(bytes(2 * 2**20))
        out = tmp_path / 'out'
        pack.main(['--out', str(out), '--data', str(images)])
        assert (out / 'camvid.tar').exists()
        with pytest.raises(SystemExit, match=r'camvid takes 2\.0 MiB, 1\.0 MiB are left'):
            pack.main(['--out', str(out), '--data', str(images), '--limit-mib', '10'])
        assert not list(out.iterdir())

    def test_every_package_is_pinned(self, pack: Any) -> None:
        assert set(pack.PACKAGES) <= set(pack.pinned(pack.ROOT / 'requirements.txt'))


def wheel_of(folder: Path, name: str, version: str) -> None:
    """Write a wheel of one module, which says where it comes from."""
    info = f'{name}-{version}.dist-info'
    with zipfile.ZipFile(folder / f'{name}-{version}-py3-none-any.whl', 'w') as file:
        file.writestr(f'{name}.py', "ORIGIN = 'pack'\n")
        file.writestr(
            f'{info}/METADATA', f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        )
        tags = 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
        file.writestr(f'{info}/WHEEL', tags)
        file.writestr(f'{info}/RECORD', '')


PREPARE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import machine
print(*machine.prepare(Path(sys.argv[2]), Path(sys.argv[3])))
import missing_here, click, multishift_training
print(missing_here.ORIGIN, hasattr(click, 'ORIGIN'), multishift_training.__path__[0])
"""


@pytest.mark.slow
def test_machine_gets_from_the_pack_what_it_lacks(tmp_path: Path) -> None:
    pack, site = tmp_path / 'pack', tmp_path / 'site'
    pack.mkdir()
    wheel_of(pack, 'missing_here', '1.0')
    wheel_of(pack, 'click', '0.1')  # older than what is there
    (pack / 'broken-1.0-py3-none-any.whl').write_bytes(b'no wheel')
    done = run('-c', PREPARE, SCRIPTS, pack, site)
    assert done.returncode == 0, done.stderr
    said, origins = done.stdout.splitlines()
    assert said.startswith('cannot install broken from the pack: ERROR: ')
    assert said.endswith(' installed from the pack: missing_here')
    assert origins.startswith('pack False ')
    (pack / 'broken-1.0-py3-none-any.whl').unlink()
    assert run('-c', PREPARE, SCRIPTS, pack, site).stdout.startswith('nothing to install\npack ')


def test_run_comes_back_in_pieces(scripts: Callable[[str], Any], tmp_path: Path) -> None:
    bringing, source, out = scripts('bringing'), tmp_path / 'run', tmp_path / 'out'
    source.mkdir()
    (source / 'best').write_bytes(os.urandom(2500))
    (source / 'last.pt').write_bytes(os.urandom(900))
    files = [source / name for name in ('best', 'absent', 'last.pt')]
    assert bringing.bring(files, out, piece=1000) == []
    names = {'best.00', 'best.01', 'best.02', 'last.pt', 'pieces.json'}
    assert {path.name for path in out.iterdir()} == names
    bringing.restore(out, tmp_path / 'again')
    for name in ('best', 'last.pt'):
        assert (tmp_path / 'again' / name).read_bytes() == (source / name).read_bytes()
    # Fewer pieces than before, and one file that does not fit.
    (source / 'best').write_bytes(os.urandom(1500))
    (source / 'last.pt').write_bytes(os.urandom(4500))
    (word,) = bringing.bring(files, out, piece=1000, most=6)
    assert word.startswith('last.pt left out: its 0.0 MiB take 5 files of ')
    assert {path.name for path in out.iterdir()} == {
        'best.00',
        'best.01',
        'last.pt',
        'pieces.json',
    }
    (out / 'best.01').write_bytes(b'damaged')
    with pytest.raises(SystemExit, match='pieces of best in .* are damaged'):
        bringing.restore(out, tmp_path / 'third')


@pytest.mark.slow
def test_training_is_left_in_time_and_gone_on_with_elsewhere(tmp_path: Path) -> None:
    size = [64, 96]
    images = {'kind': 'sample_drive', 'split': 'train', 'frames': 2, 'seed': 1, 'size': size}
    config = {
        'model': 'deeplabv3plus_compact',
        'data': {'images': images, 'transforms': {'kind': 'zoom_crop', 'crop': [32, 64]}},
        'val': {'images': {**images, 'split': 'val', 'frames': 1}},
        'engine_size': size,
        'batch_size': 2,
        'monitor': 'miou',
        'stages': [
            {
                'name': 'closed_world',
                'epochs': 1,
                'trainable': ['*'],
                'method': {'kind': 'closed_world'},
                'optimizer': {'learning_rate': 1e-3},
            }
        ],
    }
    path, out = tmp_path / 'tiny.yaml', tmp_path / 'out'
    path.write_text(yaml.safe_dump(config))
    train = (SCRIPTS / 'train.py', path, '--every', '0.2', '--workers', '0', '--out', out)
    first = run(*train, '--minutes', '0', '--run', tmp_path / 'here')
    assert first.returncode == 0, first.stderr[-2000:]
    assert 'give the same command again to go on' in first.stdout
    assert json.loads((out / 'figures.json').read_text())['epochs done'] == 0
    (tmp_path / 'there').mkdir()  # its frames are rendered
    (tmp_path / 'there' / 'cache').symlink_to(tmp_path / 'here' / 'cache')
    second = run(*train, '--minutes', '5', '--run', tmp_path / 'there', '--resume', out)
    assert second.returncode == 0, second.stderr[-2000:]
    assert 'best weights' in second.stdout
    assert json.loads((out / 'figures.json').read_text())['epochs done'] == 1
    expected = {'best.safetensors', 'config.yaml', 'log.jsonl', 'last.pt'}
    assert {path.name for path in out.iterdir()} == expected | {'figures.json', 'pieces.json'}
    written = yaml.safe_load((out / 'config.yaml').read_text())
    assert (written['precision'], written['channels_last']) == ('bf16', True)

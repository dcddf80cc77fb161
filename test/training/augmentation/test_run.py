# SPDX-License-Identifier: Apache-2.0
"""Augmentation runs: the same set whatever the processes, the batches, and who was killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import errno
from functools import partial
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest
import yaml

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation import run
from multishift_training.augmentation.config import AugmentConfig, Filters
from multishift_training.augmentation.filters import Jury
from multishift_training.augmentation.output_folder import AugmentFolder
from multishift_training.augmentation.parts import Composition, Generated, NovelObject, Rejection
from multishift_training.augmentation.records import Record, Summary, from_lines

Bytes = NDArray[np.uint8]

SIZE = (48, 64)
SOURCES = ('ulm_000001_000019', 'ulm_000002_000019', 'bonn_000003_000019')
CONFIG = {
    'images': {'kind': 'cityscapes'},
    'per_image': 2,
    'attempts': 3,
    'objects': {'kind': 'cutouts', 'root': 'objects'},
    'generator': {'kind': 'procedural'},
}


class FakeObjects:
    """Draws boxes; of some, the file is broken."""

    def draw(self, rng: np.random.Generator) -> NovelObject:
        if rng.random() < 0.1:
            raise MultishiftError('objects/broken.png is no readable image')
        if rng.random() < 0.1:
            raise Rejection('object is empty', origin='objects/empty.png')
        shape = int(rng.integers(20, 60)), int(rng.integers(20, 60))
        return NovelObject('traffic cone', f'box {shape}', np.ones(shape, np.bool_), None, None)


class FakeGenerator:
    """Paints noise, and the object as a plain shade, by which the fake segmenter judges."""

    version = 'fake 1'

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def generate(
        self, compositions: Sequence[Composition], seeds: Sequence[np.random.SeedSequence]
    ) -> list[Generated]:
        assert 0 < len(compositions) <= self.batch
        return [self._one(c, s) for c, s in zip(compositions, seeds, strict=True)]

    def _one(self, composition: Composition, seed: np.random.SeedSequence) -> Generated:
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 100, (*composition.mask.shape, 3), np.uint8)
        image[composition.mask] = rng.integers(100, 256)
        domain = {'time': 'day', 'weather': str(rng.choice(['snowy', 'clear']))}
        return Generated(image, 'a street', domain)


class FakeSegmenter:
    """Sees bright objects whole, and of dark ones the upper half."""

    version = 'fake 2'
    exact = True

    def segment(self, image: Bytes, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        seen = mask.copy()
        if image[mask].mean() < 170:
            rows = np.flatnonzero(mask.any(1))
            seen[rows[len(rows) // 2] :] = False
        return seen


def use_fakes(patch: pytest.MonkeyPatch, batch: int = 1) -> None:
    jury = Jury(
        Filters.model_validate({'present': {'kind': 'sam', 'folder': 'sam'}}), FakeSegmenter(), {}
    )
    patch.setattr(run, 'open_objects', lambda config, root: FakeObjects())
    patch.setattr(run, 'open_generator', lambda config, root: FakeGenerator(batch))
    patch.setattr(run, 'open_jury', lambda config, root: jury)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fakes(monkeypatch)


def write_source(root: Path, name: str, labels: Bytes) -> None:
    rng = np.random.default_rng(0)
    city = name.partition('_')[0]
    for folder, end, content in (
        ('leftImg8bit', 'leftImg8bit', rng.integers(0, 256, (*SIZE, 3), np.uint8)),
        ('gtFine', 'gtFine_labelTrainIds', labels),
    ):
        path = root / 'cityscapes' / folder / 'train' / city / f'{name}_{end}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(content).save(path)


def street() -> Bytes:
    labels = np.full(SIZE, 2, np.uint8)
    labels[:12] = 10
    labels[20:] = 0
    labels[-3:, :9] = VOID
    return labels


def write_data(root: Path, sources: Sequence[str] = SOURCES) -> Path:
    for name in sources:
        write_source(root, name, street())
    (root / 'objects').mkdir()
    cv2.imwrite(str(root / 'objects/box.png'), np.full((40, 30), 255, np.uint8))
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / 'data')


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / 'run'


def augment(data: Path, out: Path, **changes: Any) -> Summary:
    return run.augment(AugmentConfig.model_validate(CONFIG | changes), out, root=data)


def tree(path: Path) -> dict[str, bytes]:
    """Return all that a run leaves, by path: but for locks, times, and rendered sources."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob('*'))
        if file.is_file()
        and file.relative_to(path).parts[0] not in ('.work', 'cache')
        and not file.relative_to(path).parts[0].startswith('timing_')
    }


def records(path: Path) -> list[Record]:
    return from_lines((path / 'records.jsonl').read_text())


@pytest.mark.usefixtures('fakes')
def test_what_a_run_leaves(data: Path, out: Path) -> None:
    summary = augment(data, out)
    found = records(out)
    accepted = [r for r in found if r.verdict == 'accepted']
    assert summary == Summary.model_validate_json((out / 'summary.json').read_text())
    assert summary.complete and summary.sources == 3 and summary.faults == {}
    assert summary.accepted == len(accepted) == 6 - summary.given_up > 2
    assert sum(summary.rejected.values()) == len(found) - len(accepted) > 2
    assert set(summary.rejected) >= {'object not seen'}
    assert found == sorted(found, key=lambda r: r.place)
    assert [from_lines((out / f'records/{s}.jsonl').read_text()) for s in sorted(SOURCES)] == [
        [r for r in found if r.source == s] for s in sorted(SOURCES)
    ]
    published = {path for path in tree(out) if path.startswith(('leftImg8bit', 'gtFine'))}
    assert len(published) == 2 * len(accepted)
    for record in accepted:
        city = record.source.partition('_')[0]
        image = f'leftImg8bit/train/{city}/{record.file}_leftImg8bit.png'
        labels = f'gtFine/train/{city}/{record.file}_gtFine_labelTrainIds.png'
        assert {image, labels} <= published
        weather = record.domain['weather']
        assert f'{record.file}_'.startswith(f'{record.source}_{weather}_day_traffic-cone_1.00_')
        assert record.figures == {'iou': 1.0} and record.filters == {'present': 'fake 2'}
        assert (record.generator, record.prompt) == ('fake 1', 'a street')
        painted, truth = (np.array(Image.open(out / p)) for p in (image, labels))
        assert painted.shape == (*SIZE, 3) and truth.dtype == np.uint8
        novel = truth == NOVEL
        assert novel.any() and (painted[novel] >= 100).all() and (painted[~novel] < 100).all()
        assert (truth[~novel] == street()[~novel]).all()
    sources = sorted(SOURCES)
    assert all(r.seed == (0, sources.index(r.source), r.sample, r.attempt) for r in found)


@pytest.mark.usefixtures('fakes')
def test_attempts_are_bounded_and_kept(data: Path, out: Path) -> None:
    augment(data, out)
    found = records(out)
    for source in SOURCES:
        for sample in range(2):
            tried = [r for r in found if (r.source, r.sample) == (source, sample)]
            assert [r.attempt for r in tried] == list(range(len(tried)))
            assert all(r.verdict == 'rejected' for r in tried[:-1])
            assert tried[-1].verdict == 'accepted' or len(tried) == 3
    not_seen = [r for r in found if r.reason == 'object not seen']
    assert all(0.3 < r.figures['iou'] < 0.7 for r in not_seen)
    assert {r.thumbnail for r in not_seen} == {p for p in tree(out) if p.startswith('rejected')}


@pytest.mark.usefixtures('fakes')
def test_objects_that_cannot_be_drawn_are_named(data: Path, out: Path) -> None:
    summary = augment(data, out, per_image=20)
    origins = {r.reason: r.origin for r in records(out) if not r.object}
    assert origins == {
        'object is empty': 'objects/empty.png',
        'object unreadable': 'objects/broken.png is no readable image',
    }
    assert summary.accepted > 20


@pytest.mark.usefixtures('fakes')
def test_many_samples_of_a_source_have_names_of_their_own(data: Path, out: Path) -> None:
    augment(data, out, per_image=20)
    files = [r.file for r in records(out) if r.file is not None]
    assert len(files) == len(set(files)) > 20


@pytest.mark.usefixtures('fakes')
def test_another_seed_makes_another_set(data: Path, tmp_path: Path) -> None:
    augment(data, tmp_path / 'a')
    augment(data, tmp_path / 'b', seed=1)
    assert records(tmp_path / 'a') != records(tmp_path / 'b')


@pytest.mark.parametrize('batch', [2, 5, 100])
def test_batches_change_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    use_fakes(monkeypatch)
    augment(data, tmp_path / 'single')
    use_fakes(monkeypatch, batch)
    augment(data, tmp_path / 'batched')
    assert tree(tmp_path / 'batched') == tree(tmp_path / 'single')


@pytest.mark.usefixtures('fakes')
def test_ranks_change_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    augment(data, tmp_path / 'one')
    monkeypatch.setenv('WORLD_SIZE', '2')
    for rank, done in ((1, 1), (0, 3)):
        monkeypatch.setenv('RANK', str(rank))
        assert augment(data, tmp_path / 'two').recorded == done
    assert tree(tmp_path / 'two') == tree(tmp_path / 'one')


@pytest.mark.usefixtures('fakes')
def test_a_run_that_is_done_stays_as_it_is(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = augment(data, out)
    before = tree(out)
    monkeypatch.setattr(run, 'open_generator', None)  # what is not needed is not opened
    assert augment(data, out, workers=2) == first
    assert tree(out) == before


@pytest.mark.usefixtures('fakes')
def test_images_are_brought_to_the_wanted_size(data: Path, out: Path) -> None:
    assert augment(data, out, size=[24, 40]).accepted
    shapes = {Image.open(out / p).size for p in tree(out) if p.endswith('.png')}
    assert shapes == {(40, 24)}


@pytest.mark.usefixtures('fakes')
def test_faulty_sources_are_named_and_may_be_mended(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    augment(data, tmp_path / 'whole')
    city = data / 'cityscapes/leftImg8bit/train/ulm'
    broken = city / f'{SOURCES[0]}_leftImg8bit.png'
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    labels = data / f'cityscapes/gtFine/train/ulm/{SOURCES[1]}_gtFine_labelTrainIds.png'
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(labels)
    summary = augment(data, tmp_path / 'mended')
    assert summary.complete and list(summary.faults) == list(SOURCES[:2])
    assert str(broken) in summary.faults[SOURCES[0]]
    assert '(10, 12)' in summary.faults[SOURCES[1]]
    assert summary.accepted + summary.given_up == 2
    broken.write_bytes(content)
    Image.fromarray(street()).save(labels)
    assert augment(data, tmp_path / 'mended').faults == {}
    assert tree(tmp_path / 'mended') == tree(tmp_path / 'whole')


@pytest.mark.usefixtures('fakes')
def test_sources_without_road_are_given_up(data: Path, out: Path) -> None:
    write_source(data, SOURCES[1], np.full(SIZE, 2, np.uint8))
    augment(data, out)
    tried = [r for r in records(out) if r.source == SOURCES[1]]
    assert len(tried) == 6 and {r.verdict for r in tried} == {'rejected'}
    assert 'no drivable ground' in {r.reason for r in tried}


@pytest.mark.usefixtures('fakes')
def test_full_disk(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    augment(data, tmp_path / 'whole')
    write_bytes = Path.write_bytes

    def fail(path: Path, content: bytes) -> int:
        if SOURCES[0] in path.name:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', fail)
        with pytest.raises(MultishiftError, match='no room on the disk') as caught:
            augment(data, tmp_path / 'resumed')
    assert '\n' not in str(caught.value)
    done = {path.stem for path in (tmp_path / 'resumed/records').iterdir()}
    assert done == {SOURCES[2]}
    augment(data, tmp_path / 'resumed')
    assert tree(tmp_path / 'resumed') == tree(tmp_path / 'whole')


@pytest.mark.usefixtures('fakes')
def test_folders_that_are_not_the_runs_are_refused(data: Path, out: Path) -> None:
    augment(data, out)
    before = tree(out)
    with pytest.raises(MultishiftError, match='holds a run of another configuration'):
        augment(data, out, seed=7)
    with pytest.raises(MultishiftError, match='only an augmentation run is replaced'):
        augment(data, data / 'cityscapes')
    assert tree(out) == before


@pytest.mark.usefixtures('fakes')
def test_run_that_does_no_source_claims_nothing(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MultishiftError):
        augment(data / 'nowhere', out)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch, pytest.raises(MultishiftError, match='no room'):
        patch.setattr(run, '_open_worker', fail)
        augment(data, out)
    # Nor do sources that cannot be read, which may be a fault of the configuration.
    labels = sorted(data.rglob('*_gtFine_labelTrainIds.png'))
    content = [path.read_bytes() for path in labels]
    for path in labels:
        path.write_bytes(b'broken')
    assert len(augment(data, out).faults) == len(SOURCES)
    assert not (out / 'config.yaml').exists()
    for path, whole in zip(labels, content, strict=True):
        path.write_bytes(whole)
    assert augment(data, out, seed=7).accepted
    assert yaml.safe_load((out / 'config.yaml').read_text())['seed'] == 7


@pytest.mark.usefixtures('fakes')
def test_a_second_start_is_kept_out(data: Path, out: Path) -> None:
    folder = AugmentFolder(out, AugmentConfig.model_validate(CONFIG))
    with (
        folder.held(0),
        pytest.raises(MultishiftError, match='another process is at work on'),
    ):
        augment(data, out)
    assert augment(data, out).complete


@pytest.mark.usefixtures('fakes')
def test_names_that_would_be_the_same_file(data: Path, out: Path) -> None:
    for name in ('a b', 'a-b'):
        for folder in ('pictures', 'masks'):
            (data / folder).mkdir(exist_ok=True)
            Image.fromarray(street()).save(data / folder / f'{name}.png')
    table = data / 'table.yaml'
    table.write_text('{0: 0, 2: 2, 10: 10, 255: void}')
    images = {
        'kind': 'folder',
        'images': 'pictures',
        'labels': 'masks',
        'image_suffix': '.png',
        'label_map': str(table),
    }
    with pytest.raises(MultishiftError, match='images a b and a-b would be the same file'):
        augment(data, out, images=images)


@pytest.mark.usefixtures('fakes')
def test_a_damaged_record_is_named(data: Path, out: Path) -> None:
    augment(data, out)
    (out / f'records/{SOURCES[1]}.jsonl').write_text('{"source"')
    with pytest.raises(MultishiftError, match=rf'{SOURCES[1]}.jsonl is damaged.*delete it'):
        augment(data, out)


def kill_everywhere(root: Path) -> int:
    """Kill a run before each of the changes it makes to the disk, or amid it; resume and compare.

    Returns:
        The number of moments at which a run was killed.
    """
    cv2.setNumThreads(1)  # forks of a process with threads can hang
    use_fakes(pytest.MonkeyPatch())
    data = write_data(root / 'data', SOURCES[1:])
    augment(data, root / 'whole', per_image=1)
    whole = tree(root / 'whole')
    for moment in range(1000):
        out = root / f'killed_{moment}'
        if not _killed(moment, partial(augment, data, out, per_image=1)):
            return moment
        for path in tree(out):
            if path.endswith(('.png', '.jpg')):
                Image.open(out / path).load()  # whatever is there is whole
            elif path.startswith('records/'):
                assert from_lines((out / path).read_text())
        assert augment(data, out, per_image=1).complete
        assert tree(out) == whole, moment
        assert sorted(p.name for p in (out / '.work').iterdir()) == ['0.lock', 'lock']
    raise AssertionError('a run without end')


def _killed(moment: int, work: Callable[[], object]) -> bool:
    """Do work in a process that is killed at a moment; return whether it had come that far."""
    child = os.fork()
    if child == 0:
        left = iter([False] * moment + [True])
        replace, rename, write_bytes = os.replace, Path.rename, Path.write_bytes

        def die(*_: object) -> None:
            if next(left):
                os.kill(os.getpid(), signal.SIGKILL)

        def write_half(path: Path, content: bytes) -> int:
            write_bytes(path, content[: len(content) // 2])
            die()
            return write_bytes(path, content)

        patch = pytest.MonkeyPatch()
        patch.setattr(os, 'replace', lambda *paths: (die(), replace(*paths)))
        patch.setattr(Path, 'rename', lambda *paths: (die(), rename(*paths)))
        patch.setattr(Path, 'write_bytes', write_half)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    script = (
        f'import runpy; from pathlib import Path; t = runpy.run_path({__file__!r});'
        f'print(t["kill_everywhere"](Path({str(tmp_path)!r})))'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


@pytest.fixture(scope='module')
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Data, and a run of one process over it with the real parts."""
    root = tmp_path_factory.mktemp('real')
    augment(write_data(root / 'data'), root / 'whole')
    yield root / 'data', root / 'whole'


@pytest.mark.slow
def test_workers_change_nothing(real: tuple[Path, Path], out: Path) -> None:
    data, whole = real
    assert augment(data, out, workers=2).accepted == 6
    assert tree(out) == tree(whole)
    spent = json.loads((out / 'timing_0.json').read_text())
    assert spent['seconds'].keys() >= {'draw', 'place', 'generate', 'filter', 'write'}
    assert 0 < spent['share_outside_generator'] < 1


@pytest.mark.slow
def test_a_killed_run_takes_its_workers_with_it(real: tuple[Path, Path], out: Path) -> None:
    data, whole = real
    # It stops by itself amid the work: whoever kills it may be scheduled late.
    script = (
        'import json, os, signal, sys, threading, time; from pathlib import Path\n'
        'from multishift_training.augmentation import run\n'
        'from multishift_training.augmentation.config import AugmentConfig\n'
        'config = AugmentConfig.model_validate(json.loads(sys.argv[1]))\n'
        'out = Path(sys.argv[2])\n'
        'def stop():\n'
        '    while not list(out.glob("records/*")): time.sleep(0.001)\n'
        '    os.kill(os.getpid(), signal.SIGSTOP)\n'
        'threading.Thread(target=stop, daemon=True).start()\n'
        'run.augment(config, out, root=Path(sys.argv[3]))\n'
    )
    config = json.dumps({**CONFIG, 'workers': 2})
    with subprocess.Popen([sys.executable, '-c', script, config, out, data]) as process:
        while ') T ' not in Path(f'/proc/{process.pid}/stat').read_text():
            assert process.poll() is None
            time.sleep(0.01)
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
        assert children
        assert any(out.glob('records/*'))
        process.kill()
    while any(_runs(child) for child in children):
        time.sleep(0.01)
    augment(data, out)
    assert tree(out) == tree(whole)


def _runs(process: str) -> bool:
    try:
        return ') Z ' not in Path(f'/proc/{process}/stat').read_text()
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_faults_of_workers_are_one_line(tmp_path: Path, out: Path) -> None:
    data = write_data(tmp_path / 'data', SOURCES[:1])
    changes = {'filters': {'novel': {'network': 'no_engine', 'least': 0.5}}, 'workers': 2}
    with pytest.raises(MultishiftError, match='no_engine'):
        augment(data, out, **changes)


def test_labels_of_several_classes_are_refused() -> None:
    with pytest.raises(ValueError, match='images: labels of idd_lite stand for groups of classes'):
        AugmentConfig.model_validate(CONFIG | {'images': {'kind': 'idd_lite'}})

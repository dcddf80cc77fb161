# SPDX-License-Identifier: Apache-2.0
"""All that `docs/extending.md` shows runs as it stands there, and does what the page says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
import importlib
import json
import os
from pathlib import Path
import re
import shlex
import subprocess
import sys
import tomllib
from typing import Any

from click.testing import CliRunner
import numpy as np
from PIL import Image
import pytest
from safetensors.torch import load_file
import torch

from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine, read_manifest
from multishift_perception.errors import MultishiftError
from multishift_training import checkpoints, models
from multishift_training.checkpoints.trained import open_trained
from multishift_training.datasets import ValidationData, open_images, open_validation
from multishift_training.datasets.batch import Batch, Sample, collate
from multishift_training.datasets.kinds import kinds
from multishift_training.inference.fitting import fit_scores
from multishift_training.inference.runners import NetworkRunner
from multishift_training.loop.config import TrainConfig, read_config
from multishift_training.loop.train import train
from multishift_training.methods import METHODS, Context
from multishift_training.models import Prediction
from multishift_training.scores import SCORES, find_score
from multishift_training.scores.rescored import with_score

PAGE = (Path(__file__).parents[1] / 'docs/extending.md').read_text()
BLOCK = re.compile(r'^```(\w+)\n(?:# ([\w./]+)\n)?(.*?)^```$', re.MULTILINE | re.DOTALL)
FILES = {name: body for _, name, body in BLOCK.findall(PAGE) if name}
COMMANDS = [
    line
    for language, _, body in BLOCK.findall(PAGE)
    if language == 'sh'
    for line in body.splitlines()
]
OFFERS: dict[str, dict[str, str]] = {}
for _language, _, _body in BLOCK.findall(PAGE):
    if _language == 'toml':
        for _group, _things in tomllib.loads(_body)['project']['entry-points'].items():
            OFFERS.setdefault(_group, {}).update(_things)
SIZE = (64, 96)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('package')]


def command(start: str) -> list[str]:
    """The words of the one command of the page that starts so, without `multishift`."""
    (line,) = (line for line in COMMANDS if line.startswith(f'multishift {start}'))
    return shlex.split(line)[1:]


def run(words: list[str]) -> str:
    done = CliRunner().invoke(multishift, words)
    if done.exception is not None:
        raise done.exception
    return done.output


def draw(image: Path, labels: Path, raw: np.ndarray, rng: np.random.Generator) -> None:
    for path in (image, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.random.default_rng(7).integers(0, 256, (256, 3))
    noise = rng.integers(-20, 20, (*raw.shape, 3))
    Image.fromarray((colors[raw] + noise).clip(0, 255).astype(np.uint8)).save(image)
    Image.fromarray(raw).save(labels)


@pytest.fixture(scope='module')
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page, a package of them installed, and pictures."""
    home = tmp_path_factory.mktemp('extending')
    for name, body in FILES.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(body)
    (home / 'my_streets/__init__.py').touch()
    project = tomllib.loads(FILES['pyproject.toml'])['project']
    info = home / 'my_streets-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {project["name"]}\nVersion: {project["version"]}\n'
    )
    (info / 'entry_points.txt').write_text(
        '\n'.join(
            f'[{group}]\n' + ''.join(f'{name} = {value}\n' for name, value in offers.items())
            for group, offers in OFFERS.items()
        )
    )
    rng = np.random.default_rng(0)
    for split, count in (('train', 8), ('val', 4)):
        for i in range(count):
            raw = rng.choice([0, 1, 2, 3, 4, 9], (4, 6)).repeat(16, 0).repeat(16, 1)
            folder, key = home / 'data/my_town', f'{"north" if i % 2 else "south"}/{split}_{i}'
            image, labels = folder / f'images/{key}.jpg', folder / f'labels/{key}.png'
            draw(image, labels, raw.astype(np.uint8), rng)
            with (folder / f'{split}.txt').open('a') as listed:
                listed.write(f'{key}\n')
    for drive in ('a', 'b'):
        raw = rng.choice([1, 2, 3, 4, 255], (4, 6)).repeat(16, 0).repeat(16, 1)
        folder = home / 'data/my_fleet' / drive
        draw(folder / '7_rgb.png', folder / '7_mask.png', raw.astype(np.uint8), rng)
    return home


@pytest.fixture(scope='module')
def package(
    home: Path, own_registries: Callable[[], AbstractContextManager[None]]
) -> Iterator[None]:
    """The package is installed, and the page's commands run where its files are."""
    before = Path.cwd()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(home))
    importlib.invalidate_caches()
    os.chdir(home)
    with own_registries():
        yield
    os.chdir(before)
    sys.path.remove(str(home))
    torch.set_num_threads(threads)
    for name in [name for name in sys.modules if name.partition('.')[0] == 'my_streets']:
        del sys.modules[name]


@pytest.fixture(scope='module')
def best(home: Path, package: None) -> Path:
    """The network that the page trains."""
    assert 'best weights: runs/prototypes/best.safetensors' in run(command('train prototypes'))
    return home / 'runs/prototypes/best.safetensors'


def test_minimal_example_is_trained_evaluated_and_exported() -> None:
    assert 'best weights: runs/smooth/best.safetensors' in run(command('train smooth.yaml'))
    run(command('evaluate town.yaml'))
    assert 'margin' in Path('town/metrics.json').read_text()
    run(command('engine build runs/smooth/best.safetensors'))
    with Engine.load(Path('margin_engine'), backend='torch') as engine:
        assert engine.infer(np.zeros((1, *SIZE, 3), np.uint8)).score.max() <= 0


def test_method_is_trained_and_its_state_is_for_training_alone(best: Path) -> None:
    opened = open_trained(best)
    assert type(opened.model).__name__ == 'TwoConvs'
    assert opened.origin.configuration['stages'][0]['method'] == {
        'kind': 'prototypes',
        'width': 32,
        'keep': 0.8,
        'pull': 0.1,
    }
    saved = torch.load(best.parent / 'last.pt', weights_only=True)
    assert saved['methods']['prototypes'].keys() == {'head.weight', 'head.bias', 'means'}
    seen = saved['methods']['prototypes']['means'].abs().sum(1).nonzero().flatten()
    assert seen.tolist() == [0, 1, 2, 13]  # neither novel nor void ones
    assert not any('means' in key or 'head' in key for key in load_file(best))
    assert {group['base'] for group in saved['optimizer']['param_groups']} == {0.01, 0.1}
    figures = [json.loads(line) for line in (best.parent / 'log.jsonl').read_text().splitlines()]
    assert figures[-1]['loss/cross_entropy'] < figures[0]['loss/cross_entropy']
    assert figures[-1]['loss/pull'] < figures[0]['loss/pull']


def test_method_stopped_after_every_step_ends_alike(best: Path, tmp_path: Path) -> None:
    config = read_config(Path('prototypes.yaml'))
    while train(config, tmp_path / 'run', root=Path('data'), seconds=0) is None:
        pass
    whole, stopped = load_file(best), load_file(tmp_path / 'run/best.safetensors')
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)


def changed(**method: Any) -> dict[str, Any]:
    content = read_config(Path('prototypes.yaml')).model_dump(mode='json')
    content['stages'][0].update(method=method, epochs=1)
    return content


def test_method_refuses_pairs(tmp_path: Path) -> None:
    content = changed(kind='prototypes')
    content['data']['partners'] = {'kind': 'my_town'}
    config = TrainConfig.model_validate(content)
    with pytest.raises(MultishiftError, match='prototypes learns from single images: leave data'):
        train(config, tmp_path / 'run', root=Path('data'))


def test_method_of_views_is_trained(tmp_path: Path) -> None:
    config = TrainConfig.model_validate(changed(kind='consistency'))
    assert train(config, tmp_path / 'run', root=Path('data')) is not None
    (line,) = (tmp_path / 'run/log.jsonl').read_text().splitlines()
    assert json.loads(line)['loss/consistency'] > 0


def test_method_that_adapts_the_network_is_trained_and_exported(tmp_path: Path) -> None:
    config = TrainConfig.model_validate(changed(kind='boundaries'))
    best = train(config, tmp_path / 'run', root=Path('data'))
    assert {'boundary.weight', 'boundary.bias'} <= load_file(best).keys()
    (line,) = (tmp_path / 'run/log.jsonl').read_text().splitlines()
    assert json.loads(line)['loss/boundary'] > 0
    bundle = str(tmp_path / 'bundle')
    run(['engine', 'build', str(best), '--data', 'data', '--out', bundle, '--target', 'torch'])
    with Engine.load(tmp_path / 'bundle', backend='torch') as engine:
        engine.infer(np.zeros((1, *SIZE, 3), np.uint8))


@pytest.mark.parametrize('kind', ['smooth', 'prototypes', 'consistency', 'boundaries'])
def test_methods_do_not_care_how_a_batch_is_shared_out(kind: str) -> None:
    method = METHODS[kind](kind=kind)
    rng = np.random.default_rng(0)
    model = method.adapt(models.create('two_convs')).eval()
    views = []
    for _ in range(4):
        image = rng.integers(0, 256, (1, 32, 48, 3), np.uint8)
        labels = rng.choice(np.array([0, 13, 254, 255], np.uint8), (1, 32, 48))
        views.append(method.views(Sample(image, labels), rng))
    members = len(views[0].images)

    def parts(samples: list[Sample], gather: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        torch.manual_seed(0)
        state = method.make_state(model)
        batch = collate(samples)
        batch = batch._replace(labels=batch.labels.long())
        prediction = model(batch.images.permute(0, 3, 1, 2) / 255)
        context = Context(model, state, None, None, gather)
        return method.losses(prediction, Batch(*batch), context), state

    gathered: list[torch.Tensor] = []

    def note(values: torch.Tensor) -> torch.Tensor:
        gathered.append(values)
        return values

    whole, alone = parts(views, lambda values: values)
    parts(views[1::2], note)
    others = iter(gathered)

    def join(values: torch.Tensor) -> torch.Tensor:
        both = torch.stack([values, next(others)])
        return both.unflatten(1, (members, -1)).transpose(0, 1).flatten(0, 2)

    shared, state = parts(views[::2], join)
    torch.testing.assert_close(shared, whole)
    if alone is not None:
        torch.testing.assert_close(state.state_dict(), alone.state_dict())


def test_data_sets_are_opened(home: Path, tmp_path: Path) -> None:
    by_name: dict[str, Any] = {kind.__name__: kind for kind in kinds()}
    town = open_images(by_name['MyTown'](kind='my_town', split='val'), home / 'data', tmp_path)
    assert [entry.name for entry in town.entries] == [
        'north/val_1',
        'north/val_3',
        'south/val_0',
        'south/val_2',
    ]
    image, labels = town.read(0)
    raw = np.asarray(Image.open(home / 'data/my_town/labels/north/val_1.png'))
    assert image.shape == (*SIZE, 3)
    for value, ours in {0: 255, 1: 0, 2: 1, 3: 2, 4: 13, 9: 254}.items():
        assert (labels[raw == value] == ours).all()
    fleet = open_images(by_name['MyFleet'](kind='my_fleet'), home / 'data', tmp_path)
    assert [(e.name, e.scene, e.condition) for e in fleet.entries] == [
        ('a/7', 'a', 'night'),
        ('b/7', 'b', 'night'),
    ]
    assert set(np.unique(fleet.read(0)[1])) == {0, 19, 20, 254, 255}
    for training in (True, False):
        trained = open_images(
            by_name['MyTown'](kind='my_town'), home / 'data', tmp_path, training=training
        )
        assert (trained.read(0)[1] == 254).any() == (not training)
    missing = by_name['MyTown'](kind='my_town', root='nowhere')
    with pytest.raises(
        MultishiftError, match='cannot read the list of images .*nowhere/train.txt'
    ):
        missing.check(home / 'data')


def test_coarse_labels_are_trained_on(tmp_path: Path) -> None:
    content = changed(kind='prototypes')
    content['data']['images'] = {'kind': 'my_fleet'}
    config = TrainConfig.model_validate(content | {'batch_size': 2})
    assert train(config, tmp_path / 'run', root=Path('data')) is not None


def test_scores_are_evaluated(best: Path) -> None:
    run(command('evaluate sets.yaml --data data --out scores'))
    report = json.loads(Path('scores/metrics.json').read_text())
    assert {'margin', 'standardized_max_logit'} <= set(re.findall(r'\w+', json.dumps(report)))


@pytest.mark.parametrize('name', ['margin', 'standardized_max_logit'])
def test_scores_are_the_same_from_all_who_give_them(best: Path, name: str, tmp_path: Path) -> None:
    model = open_trained(best).model
    description = ValidationData.model_validate({'images': {'kind': 'my_town'}})
    images = open_validation(description, root=Path('data'), cache=tmp_path)
    batches = [(images[0][0][None], images[0][1][None]), (images[1][0][None], images[1][1][None])]
    fitted = fit_scores(model, [name], batches)
    assert (name in fitted) == find_score(name).is_fitted
    image = images[0][0].numpy()
    found = NetworkRunner(model, [name], fitted=fitted).run([image])[0].scores[name]
    assert found.std() > 1e-3
    network = with_score(model, name, fitted=fitted.get(name)).eval()
    scale = torch.from_numpy(image)[None].permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        score = network(scale).score[0].numpy()
    np.testing.assert_allclose(found, score, atol=1e-4)
    if name == 'margin':
        with torch.no_grad():
            two = model(scale).logits.sort(1, descending=True).values[0, :2].numpy()
        np.testing.assert_allclose(found, two[1] - two[0], atol=1e-4)
        return
    kind = type(fitted[name])
    fitted[name].save(tmp_path / 'score.safetensors')
    again = kind.load(tmp_path / 'score.safetensors')
    assert all(
        torch.equal(a, b) for a, b in zip(again.buffers(), fitted[name].buffers(), strict=True)
    )
    with pytest.raises(MultishiftError, match='the score saw no known pixel'):
        fit_scores(model, [name], [(batches[0][0], torch.full_like(batches[0][1], 255))])


def test_network_loads_its_published_layout(home: Path) -> None:
    torch.manual_seed(0)
    model: Any = models.create('two_convs')
    for size in ((64, 96), (50, 70)):
        prediction: Prediction = model(torch.zeros(1, 3, *size))
        assert prediction.logits.shape == (1, 19, *size)
        assert prediction.score.shape == (1, *size)
    assert model(torch.zeros(1, 3, 64, 96), (16, 24)).logits.shape == (1, 19, 16, 24)
    published = {
        key.replace('backbone.', 'encoder.').replace('classifier.', 'head.'): value
        for key, value in model.state_dict().items()
        if not key.startswith('uncertainty.')
    }
    published['head.weight'] = published['head.weight'][:, :, 0, 0]
    torch.save({**published, 'loss.scale': torch.ones(1)}, home / 'published.pth')
    other: Any = models.create('two_convs')
    report = checkpoints.load(other, home / 'published.pth')
    assert report.layout == 'the release of 2025'
    assert torch.equal(other.classifier.weight, model.classifier.weight)
    assert torch.equal(other.uncertainty.proxy.weight, model.classifier.weight)
    run(command('import-checkpoint'))
    assert read_manifest(home / 'published_engine').model == 'two_convs'


def test_backend_runs_what_its_target_writes(best: Path) -> None:
    assert 'openvino-blob: openvino.blob, 100.00% of labels agree' in run(
        command('engine build runs/prototypes/best.safetensors --data data --out town_engine')
    )
    assert 'openvino-blob' in run(command('engine verify'))
    with Engine.load(Path('town_engine')) as engine:
        assert engine.backend == 'openvino-blob'
        assert engine.infer(np.zeros((1, *SIZE, 3), np.uint8)).label.shape == (1, *SIZE)
    broken = Path('broken.blob')
    broken.write_bytes(b'none')
    backend = importlib.import_module('my_streets.blob_backend').BlobBackend
    with pytest.raises(MultishiftError, match=r'cannot load broken.blob .*--target openvino-blob'):
        backend(broken, 'cpu')


def test_embedded_engine_is_evaluated_on_the_data_sets() -> None:
    run(command('evaluate sets.yaml --data data --out evaluation'))
    assert set(json.loads(Path('evaluation/metrics.json').read_text())['datasets']) == {
        'town',
        'fleet',
    }


def test_program_of_ones_own_registers_what_it_imports(home: Path) -> None:
    """As by the page's program, whose `main` is left out."""
    importlib.import_module('train_mine')
    assert 'smooth' in METHODS and 'margin' in SCORES


def test_what_configurations_name_is_read_without_torch(home: Path) -> None:
    code = (
        'import sys; from pathlib import Path; '
        'from multishift_training.loop.config import read_config; '
        'from multishift_training.scores import SCORES; '
        "read_config(Path('prototypes.yaml')); assert 'margin' in SCORES; "
        "sys.exit('torch' in sys.modules)"
    )
    path = os.pathsep.join([str(home), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, '-c', code], env={**os.environ, 'PYTHONPATH': path}, cwd=home
    )
    assert done.returncode == 0


def test_every_file_and_command_of_the_page_is_used_here() -> None:
    modules = {
        f'{value.partition(":")[0]}' for group in OFFERS.values() for value in group.values()
    }
    known = {name[:-3].replace('/', '.') for name in FILES if name.startswith('my_streets/')}
    assert modules <= known
    source = Path(__file__).read_text()
    words = re.findall(r"command\(\s*'([^']+)'", source)
    assert sorted(' '.join(command(start)) for start in words) == sorted(
        line.removeprefix('multishift ') for line in COMMANDS
    )

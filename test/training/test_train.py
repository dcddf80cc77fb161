from __future__ import annotations

import json
from pathlib import Path
import shutil

from click.testing import CliRunner
import numpy as np
import pytest
import torch
import yaml

from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine
from multishift_perception.engine.manifest import read_manifest
from multishift_perception.errors import MultishiftError
from multishift_training import trained
from multishift_training.config import TrainConfig, read_config
import multishift_training.train
from multishift_training.train import train

CONFIGS = Path(__file__).parents[2] / 'config' / 'training'


def content(**changes: object) -> dict[str, object]:
    stage = {
        'name': 'closed_world',
        'epochs': 2,
        'learning_rate': 2e-3,
        'trainable': ['backbone', 'aspp', 'low', 'decoder', 'classifier'],
        'cross_entropy': 1.0,
        'contrastive': 0.0,
    }
    head = {**stage, 'name': 'head', 'epochs': 1, 'trainable': ['uncertainty']}
    head |= {'init_uncertainty': True, 'cross_entropy': 0.0, 'contrastive': 1.0}
    frames = {'kind': 'sample_drive', 'size': [96, 160]}
    return {
        'model': 'deeplabv3plus_compact',
        'train': {**frames, 'split': 'train', 'frames': 8, 'seed': 1},
        'val': {**frames, 'split': 'val', 'frames': 4, 'seed': 100},
        'engine_size': [96, 160],
        'crop': [64, 96],
        'scale': [0.75, 1.4],
        'batch_size': 4,
        'workers': 0,
        'class_weights': True,
        'stages': [stage, head],
        **changes,
    }


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run."""
    folder = tmp_path_factory.mktemp('runs') / 'whole'
    train(TrainConfig.model_validate(content()), folder, root=Path())
    return folder


@pytest.fixture
def fresh(run: Path, tmp_path: Path) -> Path:
    """The folder of a new run that need not render its frames again."""
    folder = tmp_path / 'fresh'
    shutil.copytree(run / 'cache', folder / 'cache')
    return folder


def test_run_leaves_what_it_promises(run: Path) -> None:
    log = [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
    assert [entry['stage'] for entry in log] == ['closed_world', 'closed_world', 'head']
    assert log[1]['loss/cross_entropy'] < log[0]['loss/cross_entropy']
    assert log[2]['loss/contrastive'] < log[1]['loss/contrastive']
    assert list(run.glob('events.out.tfevents*'))
    assert read_config(run / 'config.yaml') == TrainConfig.model_validate(content())


def test_head_stage_moves_nothing_else(run: Path, fresh: Path) -> None:
    """The second stage leaves network and batch statistics as the first one made them."""
    only_first = content(stages=content()['stages'][:1])
    train(TrainConfig.model_validate(only_first), fresh, root=Path())
    # The best of the first run's two epochs may be the first: compare with its last state.
    before = torch.load(fresh / 'last.pt', weights_only=True)['model']
    after = torch.load(run / 'last.pt', weights_only=True)['model']
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {'uncertainty.proxy.weight'}


@pytest.mark.parametrize('epochs_before_the_kill', [1, 2])
def test_killed_run_ends_with_the_same_weights(
    run: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch, epochs_before_the_kill: int
) -> None:
    config = TrainConfig.model_validate(content())
    original = multishift_training.train._train_epoch
    calls = 0

    def killed(*args: object) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls > epochs_before_the_kill:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(multishift_training.train, '_train_epoch', killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, fresh, root=Path())
    train(config, fresh, root=Path())
    expected = trained.open_trained(run / 'best.safetensors').model.state_dict()
    found = trained.open_trained(fresh / 'best.safetensors').model.state_dict()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_folder_of_another_configuration_is_refused(run: Path) -> None:
    with pytest.raises(MultishiftError, match='another configuration'):
        train(TrainConfig.model_validate(content(seed=5)), run, root=Path())


def test_stage_naming_no_part_of_the_network(fresh: Path) -> None:
    stages = content()['stages']
    stages[0]['trainable'] = ['backbone', 'neck']
    with pytest.raises(MultishiftError, match='names no part of deeplabv3plus_compact: neck'):
        train(TrainConfig.model_validate(content(stages=stages)), fresh, root=Path())


def test_checkpoint_becomes_an_engine(run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / 'engine'
    result = CliRunner().invoke(
        multishift,
        ['engine', 'build', str(run / 'best.safetensors'), '--out', str(bundle), '--batch', '2'],
    )
    assert result.exit_code == 0, result.output
    manifest = read_manifest(bundle)
    assert {a.backend for a in manifest.artifacts} == {'openvino', 'torch'}
    assert manifest.provenance['configuration']['train']['seed'] == 1
    frames = np.random.default_rng(0).integers(0, 256, (2, 96, 160, 3), np.uint8)
    outputs = []
    for backend in ('openvino', 'torch'):
        with Engine.load(bundle, backend=backend) as engine:
            outputs.append(engine.infer(frames))
    assert np.mean(outputs[0].label == outputs[1].label) > 0.999
    assert np.allclose(outputs[0].score, outputs[1].score, atol=1e-2)
    # And the same as the network itself, run by hand.
    from multishift_training.deploy import DeployGraph

    model = trained.open_trained(run / 'best.safetensors').model
    with torch.inference_mode():
        graph = DeployGraph(model, manifest.calibration)
        label, score, _ = graph(torch.from_numpy(frames))
    assert np.mean(outputs[1].label == label.numpy()) > 0.9999
    assert np.allclose(outputs[1].score, score.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'model': 'resnet'}, 'model: .*unknown model'),
        ({'learning_rat': 1}, 'learning_rat: Extra inputs'),
        ({'batch_size': 'many'}, 'batch_size: '),
        ({'train': {'kind': 'video'}}, "train: .*'sample_drive', 'folder'"),
    ],
)
def test_bad_configuration_names_the_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / 'config.yaml'
    path.write_text(yaml.safe_dump(content(**change)))
    with pytest.raises(MultishiftError, match=message) as caught:
        read_config(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.yaml')), ids=lambda path: path.stem)
def test_shipped_configuration_is_valid(path: Path) -> None:
    assert read_config(path).stages[-1].contrastive > 0


def test_truncated_checkpoint(run: Path, tmp_path: Path) -> None:
    path = tmp_path / 'cut.safetensors'
    path.write_bytes((run / 'best.safetensors').read_bytes()[:5000])
    with pytest.raises(MultishiftError, match='cut.safetensors is no whole safetensors file'):
        trained.open_trained(path)


def test_checkpoint_of_other_weights(run: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(run / 'best.safetensors', framework='pt') as file:
        metadata = file.metadata()
    tensors = load_file(run / 'best.safetensors')
    tensors['stray'] = tensors.pop('classifier.weight')
    save_file(tensors, tmp_path / 'other.safetensors', metadata)
    with pytest.raises(MultishiftError, match=r'missing: classifier\.weight; 1 left over: stray'):
        trained.open_trained(tmp_path / 'other.safetensors')

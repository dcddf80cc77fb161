# SPDX-License-Identifier: Apache-2.0
"""Whole runs: what they leave, and what of the network they move."""

from __future__ import annotations

from collections.abc import Callable
import copy
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import torch
from torch import Tensor
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig
import yaml

from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine
from multishift_perception.engine.manifest import read_manifest
from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints import trained
from multishift_training.datasets import Batch
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.loop.config import TrainConfig, read_config
from multishift_training.loop.run_folder import RunFolder, State
from multishift_training.loop.train import train
from multishift_training.methods import Context
from multishift_training.methods.closed_world import ClosedWorld
from multishift_training.models import Prediction
from multishift_training.models import mask2former as mask2former_module

Content = dict[str, object]
Weights = dict[str, Tensor]

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def run(content: Callable[..., Content], new_folder: Callable[[], Path]) -> Path:
    """A whole run."""
    folder = new_folder()
    best = train(TrainConfig.model_validate(content()), folder, root=Path())
    assert best == folder / 'best.safetensors'
    return folder


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]


@pytest.mark.slow
def test_log_has_a_line_for_each_epoch(run: Path) -> None:
    log = log_of(run)
    stages = ['closed_world', 'closed_world', 'uncertainty', 'features']
    assert [(entry['epoch'], entry['stage']) for entry in log] == list(enumerate(stages))
    contrastive = [f'loss/contrastive_{part}' for part in ('original', 'augmented', 'consistency')]
    cross_entropy = ['loss/cross_entropy_original', 'loss/cross_entropy_augmented']
    expected = [['loss/cross_entropy']] * 2 + [contrastive, contrastive + cross_entropy]
    assert [[key for key in entry if key.startswith('loss/')] for entry in log] == expected
    assert log[1]['loss/cross_entropy'] < log[0]['loss/cross_entropy']
    for entry in log:
        for name in ('miou', 'ap', 'auroc', 'fpr95', 'ap_max_softmax'):
            assert 0 <= entry[name] <= 1
    # Only the score was trained in the third epoch.
    assert log[2]['miou'] == log[1]['miou']
    assert log[2]['ap'] != log[1]['ap']
    assert log[2]['ap_max_softmax'] == log[1]['ap_max_softmax']


@pytest.mark.slow
def test_tensorboard_has_curves_and_images(run: Path) -> None:
    events = EventAccumulator(str(run)).Reload()
    for entry in log_of(run):
        for name in set(entry) - {'epoch', 'stage'}:
            values = {event.step: event.value for event in events.Scalars(name)}
            assert values[int(entry['epoch'])] == pytest.approx(entry[name], rel=1e-6)
    shown, trusted = ([f'{name}/{i}' for i in range(4)] for name in ('validation', 'trusted'))
    assert sorted(events.Tags()['images']) == sorted(shown + trusted)
    for tag in trusted:  # the one epoch that chooses among labels, its crops of 64 x 96
        [image] = events.Images(tag)
        assert (image.step, image.height, image.width) == (3, 64, 3 * 96)
    for tag in shown:
        images = events.Images(tag)
        assert [image.step for image in images] == [0, 1, 2, 3]
        assert (images[0].height, images[0].width) == (96, 3 * 160)


@pytest.mark.slow
def test_configuration_is_kept(run: Path, content: Callable[..., Content]) -> None:
    assert read_config(run / 'config.yaml') == TrainConfig.model_validate(content())


@pytest.mark.slow
def test_best_weights_are_those_of_the_last_stage(run: Path) -> None:
    model, origin = trained.open_trained(run / 'best.safetensors')
    config, metrics = read_config(run / 'config.yaml'), origin.metrics
    assert TrainConfig.model_validate(origin.configuration) == config
    last = log_of(run)[-1]
    assert metrics == {key: last[key] for key in metrics}
    assert not model.training
    state = torch.load(run / 'last.pt', weights_only=True)['model']
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


@pytest.mark.slow
def test_best_weights_are_those_of_the_best_epoch(
    content: Callable[..., Content],
    stages: dict[str, Content],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As good as given: an earlier stage's best never counts.
    given = iter([0.9, 0.4, 0.6, 0.5])
    monkeypatch.setattr(
        'multishift_training.loop.train.validate',
        lambda *_, **__: {'miou': 0.0, 'ap': next(given)},
    )
    head = stages['uncertainty']
    both = [{**head, 'name': 'first'}, {**head, 'name': 'second', 'epochs': 3}]
    seen = snapshots(monkeypatch)
    train(TrainConfig.model_validate(content(stages=both)), folder, root=Path())
    best = trained.open_trained(folder / 'best.safetensors')
    assert best.origin.metrics['ap'] == 0.6
    assert moved(dict(best.model.state_dict()), seen[3, 0]) == set()
    assert moved(seen[3, 0], seen[4, 0]) == {'uncertainty.proxy.weight'}


@pytest.mark.slow
def test_run_that_is_done_is_left_alone(run: Path, content: Callable[..., Content]) -> None:
    names = ('best.safetensors', 'last.pt', 'log.jsonl')
    before = [(run / name).read_bytes() for name in names]
    train(TrainConfig.model_validate(content()), run, root=Path())
    assert [(run / name).read_bytes() for name in names] == before


@pytest.mark.slow
def test_says_how_to_build_the_engine(
    run: Path, content: Callable[..., Content], tmp_path: Path
) -> None:
    path = tmp_path / 'street.yaml'
    path.write_text(yaml.safe_dump(content()))
    for data in ([], ['--data', str(tmp_path)]):
        result = CliRunner().invoke(multishift, ['train', str(path), '--out', str(run), *data])
        assert result.exit_code == 0, result.output
        words = ['multishift engine build', f'{run}/best.safetensors', *data]
        assert result.output.endswith(f'next: {" ".join(words)} --out street_engine\n')


def test_options_replace_what_the_configuration_says(
    content: Callable[..., Content], folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / 'street.yaml'
    path.write_text(yaml.safe_dump(content(workers=1)))
    options = ['--precision', 'bf16', '--no-channels-last', '--workers', '0']
    limit = ['--max-minutes', '1e-9']
    changed = ['stages.0.optimizer.learning_rate=0.5', 'seed=4']
    arguments = ['train', str(path), *changed, '--out', str(folder), *options, *limit]
    result = CliRunner().invoke(multishift, arguments)
    assert result.exit_code == 0, result.output
    assert (
        f'stopped after 1e-09 minutes and saved in {folder}: give the same command again to go on'
    ) in result.output
    claimed = read_config(folder / 'config.yaml')
    assert (claimed.precision, claimed.channels_last, claimed.workers) == ('bf16', False, 0)
    assert (claimed.stages[0].optimizer.learning_rate, claimed.seed) == (0.5, 4)
    state = torch.load(folder / 'last.pt', weights_only=True)
    assert (state['epoch'], state['step']) == (0, 1)
    (weight,) = (v for k, v in state['model'].items() if k.endswith('stem.0.0.weight'))
    assert weight.is_contiguous()


@pytest.mark.slow
def test_checkpoint_becomes_an_engine(run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / 'engine'
    result = CliRunner().invoke(
        multishift,
        ['engine', 'build', str(run / 'best.safetensors'), '--out', str(bundle), '--batch', '2'],
    )
    assert result.exit_code == 0, result.output
    manifest = read_manifest(bundle)
    assert {a.backend for a in manifest.artifacts} == {'openvino', 'torch'}
    assert manifest.method == 'closed_world, then uncertainty, then features'
    assert manifest.provenance['configuration']['data']['images']['seed'] == 1
    frames = np.random.default_rng(0).integers(0, 256, (2, 96, 160, 3), np.uint8)
    outputs = []
    for backend in ('openvino', 'torch'):
        with Engine.load(bundle, backend=backend) as engine:
            outputs.append(engine.infer(frames))
    assert np.mean(outputs[0].label == outputs[1].label) > 0.99
    assert np.allclose(outputs[0].score, outputs[1].score, atol=1e-2)
    # And the same as the network itself, run by hand.
    model = trained.open_trained(run / 'best.safetensors').model
    with torch.inference_mode():
        graph = DeployGraph(model, manifest.calibration)
        label, score, *_ = graph(torch.from_numpy(frames))
    assert np.mean(outputs[1].label == label.numpy()) > 0.9999
    assert np.allclose(outputs[1].score, score.numpy(), atol=1e-4)


@pytest.mark.slow
def test_truncated_checkpoint(run: Path, tmp_path: Path) -> None:
    path = tmp_path / 'cut.safetensors'
    path.write_bytes((run / 'best.safetensors').read_bytes()[:5000])
    with pytest.raises(MultishiftError, match=r'cut\.safetensors is no whole safetensors file'):
        trained.open_trained(path)


@pytest.mark.slow
def test_checkpoint_of_other_weights(run: Path, tmp_path: Path) -> None:
    with safe_open(run / 'best.safetensors', framework='pt') as file:
        metadata = file.metadata()
    tensors = load_file(run / 'best.safetensors')
    tensors['stray'] = tensors.pop('classifier.weight')
    save_file(tensors, tmp_path / 'other.safetensors', metadata)
    with pytest.raises(MultishiftError, match=r'missing: classifier\.weight; 1 left over: stray'):
        trained.open_trained(tmp_path / 'other.safetensors')


@pytest.mark.slow
def test_checkpoint_of_partners_that_have_another_name_now(run: Path, tmp_path: Path) -> None:
    trained_before = tmp_path / 'before.safetensors'
    with safe_open(run / 'best.safetensors', framework='pt') as file:
        metadata = file.metadata()
    config = json.loads(metadata['config'])
    config['data']['partners'] = {'kind': 'rule_based', 'weather': False}
    metadata['config'] = json.dumps(config, separators=(',', ':'))  # as it was written
    save_file(load_file(run / 'best.safetensors'), trained_before, metadata)
    configuration = trained.open_trained(trained_before).origin.configuration
    assert configuration['data']['partners'] == {'kind': 'pasted_weather', 'weather': False}
    assert TrainConfig.model_validate(configuration).data.partners is not None


def snapshots(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], Weights]:
    """Return what will hold the weights of each state that is saved, by epoch and step."""
    seen: dict[tuple[int, int], Weights] = {}
    save = RunFolder.save

    def record(self: RunFolder, state: State) -> None:
        seen[state.epoch, state.step] = copy.deepcopy(dict(state.model or {}))
        save(self, state)

    monkeypatch.setattr(RunFolder, 'save', record)
    return seen


def moved(before: Weights, after: Weights) -> set[str]:
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


def is_running(key: str) -> bool:
    return key.endswith(('running_mean', 'running_var', 'num_batches_tracked'))


@pytest.mark.slow
def test_stage_moves_what_it_says(
    content: Callable[..., Content],
    stages: dict[str, Content],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = snapshots(monkeypatch)
    head = {**stages['uncertainty'], 'init_uncertainty': False}
    plan = [
        {**head, 'name': 'frozen'},
        {**head, 'name': 'all', 'batch_norm': 'all'},
        {**head, 'name': 'trained', 'batch_norm': 'trained', 'trainable': ['aspp']},
        {**head, 'name': 'two parts', 'trainable': ['aspp.project', 'uncertainty']},
        {**head, 'name': 'decoder', 'batch_norm': 'decoder', 'trainable': ['backbone', 'aspp']},
    ]
    train(TrainConfig.model_validate(content(stages=plan)), folder, root=Path())
    ends = [seen[0, 1], *(seen[epoch, 0] for epoch in (1, 2, 3, 4, 5))]
    frozen, everywhere, of_aspp, two, outside_backbone = (
        moved(before, after) for before, after in zip(ends, ends[1:], strict=False)
    )
    parameters = {key for key in ends[0] if not is_running(key)}
    assert frozen == {'uncertainty.proxy.weight'}
    assert everywhere - parameters == {key for key in ends[0] if is_running(key)}
    assert everywhere & parameters == {'uncertainty.proxy.weight'}
    assert of_aspp == {key for key in ends[0] if key.startswith('aspp.')}
    assert two == {
        key
        for key in parameters
        if key.startswith('aspp.project.') or key == 'uncertainty.proxy.weight'
    }
    assert outside_backbone == of_aspp | {k for k in parameters if k.startswith('backbone.')}


@pytest.mark.slow
@pytest.mark.parametrize(('batch_size', 'accumulate'), [(4, 1), (2, 2)])
def test_learning_rate_moves_over_the_stage(
    batch_size: int,
    accumulate: int,
    content: Callable[..., Content],
    stages: dict[str, Content],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[float] = []
    step = torch.optim.Adam.step

    def note(self: torch.optim.Adam, *arguments: object) -> None:
        rates.append(self.param_groups[0]['lr'])
        step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, 'step', note)
    optimizer = {'name': 'adam', 'learning_rate': 0.001}
    schedule = {'kind': 'poly', 'power': 1}
    head = {**stages['uncertainty'], 'optimizer': optimizer, 'schedule': schedule}
    head['accumulate'] = accumulate
    plan = [{**head, 'epochs': 2}, {**head, 'name': 'second'}]
    config = content(batch_size=batch_size, stages=plan)
    train(TrainConfig.model_validate(config), folder, root=Path())
    # Two steps of the optimiser in an epoch; each stage has a course of its own.
    assert rates == pytest.approx([0.001, 0.00075, 0.0005, 0.00025, 0.001, 0.0005])


@pytest.mark.slow
def test_accumulated_gradient_is_the_mean_of_its_batches(
    content: Callable[..., Content],
    stages: dict[str, Content],
    new_folder: Callable[[], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gradients: list[Tensor] = []

    def note(self: torch.optim.SGD, *_: object) -> None:
        gradients.append(self.param_groups[0]['params'][0].grad.clone())

    monkeypatch.setattr(torch.optim.SGD, 'step', note)
    stage = {
        **stages['closed_world'],
        'epochs': 1,
        'trainable': ['classifier'],
        'batch_norm': 'frozen',
        'optimizer': {'name': 'sgd', 'learning_rate': 1},
    }
    for accumulate in (1, 3):
        plan = content(batch_size=2, stages=[{**stage, 'accumulate': accumulate}])
        train(TrainConfig.model_validate(plan), new_folder(), root=Path())
    single, accumulated = gradients[:4], gradients[4:]
    assert torch.allclose(accumulated[0], torch.stack(single[:3]).mean(0), rtol=1e-4, atol=1e-7)
    # What is left over at the end of an epoch counts as much a batch as the others.
    assert torch.allclose(accumulated[1], single[3] / 3, rtol=1e-4, atol=1e-7)
    assert len(accumulated) == 2


@pytest.mark.slow
@pytest.mark.parametrize('stride', [1, 3])
def test_losses_are_taken_at_every_nth_pixel(
    stride: int,
    content: Callable[..., Content],
    stages: dict[str, Content],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, ...]] = []
    losses = ClosedWorld.losses

    def note(
        self: ClosedWorld, prediction: Prediction, batch: Batch, context: Context
    ) -> dict[str, Tensor]:
        seen.extend((prediction.logits[:, 0].shape, prediction.score.shape, batch.labels.shape))
        return losses(self, prediction, batch, context)

    monkeypatch.setattr(ClosedWorld, 'losses', note)
    stage = {**stages['closed_world'], 'epochs': 1}
    config = content(loss_stride=stride, stages=[stage])
    train(TrainConfig.model_validate(config), folder, root=Path())
    assert set(seen[:3]) == {(2, 64, 64)}  # the stage is checked first, on small images
    assert set(seen[3:]) == {{1: (8, 64, 96), 3: (8, 22, 32)}[stride]}


def test_head_starts_from_the_classifier(
    content: Callable[..., Content],
    stages: dict[str, Content],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = snapshots(monkeypatch)
    optimizer = {'name': 'sgd', 'learning_rate': 1e-12, 'weight_decay': 0}
    head = {**stages['uncertainty'], 'optimizer': optimizer}
    train(TrainConfig.model_validate(content(stages=[head])), folder, root=Path())
    weights = seen[1, 0]
    assert torch.allclose(weights['uncertainty.proxy.weight'], weights['classifier.weight'])


def joins(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note in which order classes and masks are joined, whenever that changes."""
    noted: list[str] = []
    for name in ('join_masks', 'join_classes_first'):
        original = getattr(mask2former_module, name)

        def noting(*args: Any, name: str = name, original: Any = original) -> Any:
            if noted[-1:] != [name]:
                noted.append(name)
            return original(*args)

        monkeypatch.setattr(mask2former_module, name, noting)
    return noted


@pytest.fixture(scope='module')
def mask2former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `transformers` saved, with a network of some thousand parameters."""
    torch.manual_seed(0)
    config = Mask2FormerConfig(  # type: ignore[call-arg]
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=2,
        decoder_layers=4,
        num_attention_heads=4,
        num_queries=20,
        num_labels=19,
    )
    config.backbone_config = ResNetConfig(  # type: ignore[call-arg]
        embedding_size=8,
        hidden_sizes=[16, 24, 32, 40],
        depths=[1, 1, 1, 1],
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )
    path = tmp_path_factory.mktemp('mask2former')
    Mask2FormerForUniversalSegmentation(config).save_pretrained(path)
    return path


def test_masks_cannot_learn_from_groups_of_classes(
    content: Callable[..., Content], folder: Path, mask2former: Path
) -> None:
    stage = {
        'name': 'first',
        'epochs': 1,
        'trainable': ['*'],
        'method': {'kind': 'closed_world', 'masks': {}},
        'optimizer': {'learning_rate': 1e-4},
    }
    data = {**content()['data'], 'images': {'kind': 'idd_lite'}, 'partners': None}  # type: ignore[dict-item]
    config = content(
        model='mask2former', folder=mask2former.name, data=data, loss_stride=1, stages=[stage]
    )
    with pytest.raises(MultishiftError) as fault:  # before the images are looked for
        train(TrainConfig.model_validate(config), folder, root=mask2former.parent)
    assert str(fault.value) == (
        'stage first: the masks of method.masks are of one class each, but some labels of the '
        'data stand for several (drivable, ...): leave masks out, or train on other images'
    )


@pytest.mark.slow
def test_mask_network(
    content: Callable[..., Content],
    folder: Path,
    mask2former: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = snapshots(monkeypatch)
    orders = joins(monkeypatch)
    closed_world = {
        'name': 'closed_world',
        'epochs': 1,
        'trainable': ['*'],
        'method': {'kind': 'closed_world', 'masks': {}},
        'optimizer': {'learning_rate': 1e-4},
    }
    method = {'kind': 'multishift', 'margins': [0.7, 0.5, 0.2], 'segmentation': [0, 0]}
    head = {
        'name': 'uncertainty',
        'epochs': 1,
        'trainable': ['uncertainty'],
        'batch_norm': 'frozen',
        'method': method,
        'init_uncertainty': True,
        'optimizer': {'name': 'adam', 'learning_rate': 1e-3},
    }
    everything = {
        'name': 'everything',
        'epochs': 5,
        'trainable': ['*'],
        'method': {**method, 'masks': {}},
        'optimizer': {'learning_rate': 3e-3, 'decay': 'weights', 'backbone_factor': 0.1},
        'clip_norm': 1.0,
    }
    config = content(
        model='mask2former',
        folder=mask2former.name,
        weights=mask2former.name,
        loss_stride=1,
        stages=[closed_world, head, everything],
    )
    best = train(TrainConfig.model_validate(config), folder, root=mask2former.parent)
    # The stages are checked in evaluation mode, with masks upsampled first.
    # As published: mask losses go with classes joined first; validation, and the stage of the
    # head alone, with masks upsampled first.
    first, upsampled = 'join_classes_first', 'join_masks'
    assert orders == [upsampled, first, upsampled, *5 * (first, upsampled)]
    heads = {'uncertainty.classifier.weight', 'uncertainty.classifier.bias'}
    assert not heads & moved(seen[0, 1], seen[1, 0])
    assert moved(seen[1, 0], seen[2, 0]) == heads
    learning = moved(seen[2, 0], seen[7, 0])
    for part in ('backbone', 'pixel_decoder', 'decoder', 'classifier', 'uncertainty'):
        assert any(key.startswith(f'{part}.') for key in learning)
    parts = ['mask_classification', 'mask', 'mask_dice']
    log = log_of(folder)
    assert {key for key in log[0] if 'loss' in key} == {f'loss/{part}' for part in parts}
    log = log[2:]
    totals = [sum(entry[f'loss/{part}'] for part in parts) for entry in log]
    assert totals[-1] < 0.9 * totals[0]
    # It opens again, given the root that its folder is relative to.
    opened = trained.open_trained(best, root=mask2former.parent)
    quality = max(entry['ap'] + entry['miou'] for entry in log)
    assert opened.origin.metrics['ap'] + opened.origin.metrics['miou'] == quality

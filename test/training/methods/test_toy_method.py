# SPDX-License-Identifier: Apache-2.0
"""A method that no other file knows: three images, a network adapted, a state of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
import json
from pathlib import Path
from typing import Any, Literal

from click.testing import CliRunner
import numpy as np
from pydantic import ValidationError
import pytest
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine
from multishift_perception.engine.manifest import read_manifest
from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints import trained
from multishift_training.checkpoints.metadata import read_origin
from multishift_training.datasets import Batch, Sample, TrainingData
from multishift_training.loop.config import TrainConfig, read_config
from multishift_training.loop.network import make_model
from multishift_training.loop.run_folder import RunFolder, State
from multishift_training.loop.train import train
from multishift_training.methods import Context, Method, register
from multishift_training.models import Prediction, SegmentationModel

Content = dict[str, Any]

# All but one look at a run of seconds.
pytestmark = [pytest.mark.usefixtures('one_thread'), pytest.mark.slow]


class Toy(Method):
    """Finds out how dark an image was made, and keeps the mean feature in mind.

    Attributes:
        keep: share of the mean that each batch leaves.
    """

    kind: Literal['toy']
    keep: float = 0.9

    @property
    def learning_rate_factors(self) -> Mapping[str, float]:
        return {'state.head': 10.0}

    def check_data(self, data: TrainingData) -> None:
        if data.members != 1:
            raise MultishiftError('method toy learns from single images: leave data.partners out')

    def views(self, sample: Sample, rng: np.random.Generator) -> Sample:
        light = np.array([1, *rng.uniform(0.3, 0.9, 2)], np.float32)
        images = (sample.images * light[:, None, None, None]).astype(np.uint8)
        return Sample(images, np.repeat(sample.labels, 3, 0), {'light': light})

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        model.decoder.append(Gain())
        return model

    def make_state(self, model: SegmentationModel) -> nn.Module:
        assert isinstance(model.classifier, nn.Conv2d)
        width = model.classifier.in_channels
        state = nn.ModuleDict({'head': nn.Linear(width, 1)})
        state.register_buffer('mean', torch.zeros(width))
        return state

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        assert isinstance(context.state, nn.ModuleDict)
        feature = prediction.feature.mean((2, 3))
        light = context.state['head'](feature - context.state.mean)[:, 0]
        with torch.no_grad():
            context.state.mean.lerp_(context.gather(feature).mean(0), 1 - self.keep)
        labels = batch.labels.masked_fill(batch.labels >= 19, 255)
        return {
            'cross_entropy': F.cross_entropy(prediction.logits, labels, ignore_index=255),
            'light': F.mse_loss(light, batch.extras['light']),
        }


class Gain(nn.Module):
    """What the method adds to the network for good."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, feature: Tensor) -> Tensor:
        return feature * self.gain


@pytest.fixture(autouse=True, scope='module')
def registered(own_registries: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """A user writes ``register(Toy)``."""
    with own_registries():
        register(Toy)
        yield


@pytest.fixture(scope='module')
def config(content: Callable[..., Content], stages: dict[str, Content]) -> TrainConfig:
    """Two stages of the toy: four batches each, taken two by two."""
    toy = {
        **stages['closed_world'],
        'name': 'toy',
        'epochs': 1,
        'accumulate': 2,
        'clip_norm': 1.0,
        'method': {'kind': 'toy'},
    }
    plain = content(batch_size=2, monitor='miou', stages=[toy, {**toy, 'name': 'again'}])
    del plain['data']['partners']
    return TrainConfig.model_validate(plain)


@pytest.fixture(scope='module')
def run(config: TrainConfig, new_folder: Callable[[], Path]) -> Path:
    folder = new_folder()
    train(config, folder, root=Path())
    return folder


def same(first: object, second: object) -> bool:
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        assert isinstance(second, dict)
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list):
        return isinstance(second, list) and all(map(same, first, second))
    return first == second


def test_stopped_after_every_step_ends_as_if_it_never_had_been(
    run: Path,
    config: TrainConfig,
    folder: Path,
    train_in_parts: Callable[[TrainConfig, Path], int],
) -> None:
    assert train_in_parts(config, folder) == 4
    whole, stopped = (torch.load(x / 'last.pt', weights_only=True) for x in (run, folder))
    assert same(whole, stopped)
    assert same(*(load_file(x / 'best.safetensors') for x in (run, folder)))
    lines = (run / 'log.jsonl').read_text()
    assert lines == (folder / 'log.jsonl').read_text()
    assert 'loss/light' in json.loads(lines.splitlines()[0])


def test_state_is_trained_at_its_own_rate_and_passed_on(run: Path, config: TrainConfig) -> None:
    saved = torch.load(run / 'last.pt', weights_only=True)
    assert saved['schema'] == 2
    assert saved['methods'].keys() == {'toy'}
    assert saved['methods']['toy'].keys() == {'mean', 'head.weight', 'head.bias'}
    assert saved['methods']['toy']['mean'].abs().sum() > 0
    rates = {group['base'] for group in saved['optimizer']['param_groups']}
    assert rates == {2e-3, 2e-2}
    moments = saved['optimizer']['state'].values()
    assert any(m['exp_avg'].shape == (1,) and m['exp_avg'].abs() > 0 for m in moments)


def test_only_what_the_network_needs_is_in_the_checkpoint(run: Path) -> None:
    keys = load_file(run / 'best.safetensors').keys()
    gains = [key for key in keys if key.endswith('.gain')]
    assert len(gains) == 1
    assert not any('head' in key or 'mean' == key for key in keys)
    model, origin = trained.open_trained(run / 'best.safetensors')
    assert [type(method) for method in origin.adapting] == [Toy]
    assert sum(isinstance(module, Gain) for module in model.modules()) == 1


def test_exported_without_what_only_training_needs(run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / 'engine'
    command = ['engine', 'build', str(run / 'best.safetensors'), '--out', str(bundle)]
    done = CliRunner().invoke(multishift, [*command, '--target', 'torch'])
    assert done.exception is None, done.output
    manifest = read_manifest(bundle)
    assert manifest.provenance['configuration'] == read_config(run / 'config.yaml').model_dump(
        mode='json'
    )
    program = torch.export.load(bundle / manifest.artifacts[0].file)
    names = {*program.state_dict, *program.constants}
    assert any(name.endswith('.gain') for name in names)
    assert not any('head' in name or name.endswith('.mean') for name in names)
    outputs = {node.name for node in program.graph.nodes if node.op == 'output'}
    assert len(outputs) == 1 and len(program.graph_signature.user_outputs) == 5
    with Engine.load(bundle, backend='torch') as engine:
        engine.infer(np.zeros((1, 96, 160, 3), np.uint8))


def test_weights_of_an_adapted_run_start_another(run: Path, config: TrainConfig) -> None:
    start = config.model_copy(update={'weights': run / 'best.safetensors'})
    folder = RunFolder(run, config, writes=False)
    loaded = make_model(start, Path(), folder, State()).state_dict()
    assert same(dict(loaded), load_file(run / 'best.safetensors'))


def test_a_method_goes_on_from_weights_of_another_without_naming_it(
    run: Path,
    config: TrainConfig,
    stages: dict[str, Content],
    folder: Path,
    train_in_parts: Callable[[TrainConfig, Path], int],
) -> None:
    stage = {**stages['closed_world'], 'name': 'plain', 'epochs': 1, 'trainable': ['classifier']}
    start = {'weights': str(run / 'best.safetensors'), 'stages': [stage]}
    plain = TrainConfig.model_validate({**config.model_dump(mode='json'), **start})
    train_in_parts(plain, folder)
    opened, origin = trained.open_trained(folder / 'best.safetensors')
    assert [type(method) for method in origin.adapting] == [Toy]
    [gain] = [module.gain for module in opened.modules() if isinstance(module, Gain)]
    first = load_file(run / 'best.safetensors')
    [name] = [key for key in first if key.endswith('.gain')]
    assert torch.equal(gain, first[name])
    assert not torch.equal(opened.state_dict()['classifier.weight'], first['classifier.weight'])


def test_asks_of_data_in_one_line(
    config: TrainConfig, content: Callable[..., Content], folder: Path
) -> None:
    pairs = TrainConfig.model_validate(content()).data
    with pytest.raises(MultishiftError) as caught:
        train(config.model_copy(update={'data': pairs}), folder, root=Path())
    assert str(caught.value) == (
        'stage toy: method toy learns from single images: leave data.partners out'
    )


def test_it_is_written_and_read_as_the_others(run: Path, config: TrainConfig) -> None:
    assert read_config(run / 'config.yaml') == config
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    path = run.parent / 'wrong.yaml'
    path.write_text((run / 'config.yaml').read_text().replace('kind: toy', 'kind: tov'))
    with pytest.raises(MultishiftError, match=r'is tov, expected .* or toy \(did you mean toy\?'):
        read_config(path)
    path.write_text((run / 'config.yaml').read_text().replace('keep:', 'keeps:'))
    with pytest.raises(MultishiftError, match=r'keeps .* is no key of toy, expected kind or keep'):
        read_config(path)


def test_stages_that_share_what_it_made_are_configured_alike(config: TrainConfig) -> None:
    content = config.model_dump(mode='json')
    content['stages'][1]['method']['keep'] = 0.5
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate(content)
    assert (
        'stages: toy and again share what method toy adds for the whole run, and differ in its '
        'keep: write the same in both'
    ) in str(caught.value)
    # What makes nothing may change between stages.
    for stage, weights in zip(content['stages'], (False, True), strict=True):
        stage['method'] = {'kind': 'closed_world', 'class_weights': weights}
    TrainConfig.model_validate(content)


def test_state_of_another_version_is_refused(run: Path, config: TrainConfig, folder: Path) -> None:
    saved = torch.load(run / 'last.pt', weights_only=True)
    last = folder / 'last.pt'
    torch.save({**saved, 'schema': 3}, last)
    reader = RunFolder(folder, config, writes=False)
    with pytest.raises(MultishiftError) as caught:
        reader.load()
    assert str(caught.value) == (
        f'{last}: its schema is version 3, this program reads 1 or 2: go on with the version that '
        'wrote it, or delete it to start the run anew'
    )
    # As the first version wrote it.
    torch.save({k: v for k, v in saved.items() if k not in ('schema', 'methods')}, last)
    assert reader.load().epoch == saved['epoch']


def test_checkpoint_without_a_version_opens(run: Path, tmp_path: Path) -> None:
    origin = read_origin(run / 'best.safetensors')
    metadata = {
        'config': json.dumps(origin.configuration, separators=(',', ':')),
        'metrics': json.dumps(origin.metrics),
    }
    tensors = load_file(run / 'best.safetensors')
    save_file(tensors, tmp_path / 'old.safetensors', metadata)
    opened = trained.open_trained(tmp_path / 'old.safetensors')
    assert same(dict(opened.model.state_dict()), tensors)
    assert opened.origin == origin

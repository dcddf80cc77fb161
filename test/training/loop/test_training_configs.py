# SPDX-License-Identifier: Apache-2.0
"""The configurations that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from multishift_perception.engine import EMBEDDED_BUNDLE
from multishift_perception.engine.manifest import read_manifest
from multishift_training.augmentation.config import read_config as read_augmentation
from multishift_training.checkpoints import trained
from multishift_training.checkpoints.metadata import each_kind_once
from multishift_training.comparison.config import read_experiment
from multishift_training.datasets.training_data import (
    DeepLabTransforms,
    Mask2FormerTransforms,
    RuleAugPartnerData,
    RuleAugTransforms,
)
from multishift_training.loop.config import TrainConfig, read_config
from multishift_training.loop.network import adapted_first
from multishift_training.loop.optimizers import make_optimizer
from multishift_training.loop.trainable import choose_trainable
from multishift_training.methods import METHODS
from multishift_training.methods.multishift import MultiShift

CONFIGS = sorted((Path(__file__).parents[3] / 'config' / 'training').glob('*.yaml'))
GENERALISING = ('ibn', 'isw', 'mldg', 'pin_memory', 'san_saw', 'spc', 'wildnet')
EXPERIMENTS = sorted((Path(__file__).parents[3] / 'config' / 'experiments').glob('*.yaml'))
FURTHER = [path for path in EXPERIMENTS if path.stem.startswith('generalisation')]


def config(name: str) -> TrainConfig:
    return read_config(next(path for path in CONFIGS if path.stem == name))


def test_all_are_here() -> None:
    names = {path.stem for path in CONFIGS}
    assert names >= {'camvid', 'multishift_deeplab', 'multishift_mask2former', 'sample'}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_stages_fit_the_network(path: Path) -> None:
    found = read_config(path)
    # Without memory for weights: only names and shapes matter.
    with torch.device('meta'):
        model = trained.new_model(found, Path())
        for stage in found.stages:
            stage.method.check_data(found.data)
            stage.method.check_network(model, found.model)
        model = adapted_first(
            model, each_kind_once((), [stage.method for stage in found.stages]), found.model
        )
        for stage in found.stages:
            choose_trainable(model, stage)
            state, factors = stage.method.make_state(model), stage.method.learning_rate_factors
            assert make_optimizer(model, stage.optimizer, state, factors).param_groups
    for stage in found.stages:
        if isinstance(stage.method, MultiShift):
            assert found.data.partners is not None
            assert stage.method.masks is None or hasattr(model, 'class_weight')
    # One that starts from a network of both stages goes on with the second.
    if isinstance(found.stages[-1].method, MultiShift) and path.stem != 'adapt':
        uncertainty = next(stage for stage in found.stages if stage.name == 'uncertainty')
        assert uncertainty.init_uncertainty
        assert uncertainty.trainable == ['uncertainty']


def test_some_are_trained_by_the_method_of_the_paper() -> None:
    last = {path.stem: read_config(path).stages[-1].method for path in CONFIGS}
    by_paper = {name for name, method in last.items() if isinstance(method, MultiShift)}
    assert by_paper >= {'camvid', 'multishift_deeplab', 'multishift_mask2former', 'sample'}


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_are_valid(path: Path) -> None:
    found = read_experiment(path)
    if path in FURTHER:
        return
    kinds = {way.data.partners.kind for way in found.ways.values() if way.data.partners}
    assert {'generated', 'pasted_weather'} <= kinds
    for name, way in found.ways.items():
        if name.startswith('both stages'):
            assert way.starts_from == name.replace('both stages', 'stage 1')
            assert way.data == found.ways[way.starts_from].data
    assert found.augmentation is not None
    assert read_augmentation(Path(__file__).parents[3] / found.augmentation).seed == 0


def test_methods_are_compared_on_one_set_of_data_by_one_budget() -> None:
    found = read_experiment(next(path for path in EXPERIMENTS if path.stem == 'camvid'))
    plain = found.ways['plain fine-tuning']

    def epochs(name: str) -> int:
        way = found.ways[name]
        before = 0 if way.starts_from is None else epochs(way.starts_from)
        return before + sum(stage.epochs for stage in way.stages)

    whole = {name: way for name, way in found.ways.items() if 'stage 1' not in name}
    assert {epochs(name) for name in whole} == {epochs('plain fine-tuning')}
    # What learns from other data than the others is named after them.
    parts = {name for name in whole if name.startswith(('multishift, ', 'plain fine-tuning, '))}
    assert len(parts) == 5
    others = [way for name, way in whole.items() if name not in parts | {'dcr'}]
    assert all(way.data == plain.data for way in others)
    assert all(found.ways[name].data.images == plain.data.images for name in (*parts, 'dcr'))
    kinds = {way.stages[-1].method.kind for way in whole.values()}
    elsewhere = {'closed_world', 'self_training', *GENERALISING}
    assert kinds == {kind for kind in METHODS if kind not in elsewhere}


@pytest.mark.parametrize('path', FURTHER, ids=lambda path: path.stem)
def test_methods_that_generalise_are_compared_by_one_budget(path: Path) -> None:
    found = read_experiment(path)
    ways = {name: way for name, way in found.ways.items() if way.starts_from is None}
    assert {way.weights for way in (found.closed_world, *ways.values())} == {'imagenet'}
    assert {len(way.stages) for way in (found.closed_world, *ways.values())} == {1}
    kinds = {way.stages[0].method.kind for way in ways.values()}
    assert kinds <= {'closed_world', *GENERALISING} and kinds >= {'ibn', 'isw', 'spc', 'wildnet'}
    first = found.closed_world.stages[0]
    assert {way.stages[0].epochs for way in ways.values()} == {first.epochs}
    assert all(way.stages[0].optimizer == first.optimizer for way in ways.values())
    control = found.ways['strong colours'].data
    with torch.device('meta'):
        for way in ways.values():
            assert way.data == control
            method = way.stages[0].method
            method.check_data(way.data)
            model = trained.new_model(way, Path())
            method.check_network(model, way.model)
            choose_trainable(method.adapt(model), way.stages[0])


def test_detectors_stand_on_every_method_that_generalises() -> None:
    found = read_experiment(next(path for path in FURTHER if path.stem == 'generalisation'))
    detectors = [way for way in found.ways.values() if way.starts_from is not None]
    below = [
        found.trainings[way.starts_from].stages[0].method for way in detectors if way.starts_from
    ]
    assert {method.kind for method in below} == {'closed_world', *GENERALISING}
    with torch.device('meta'):
        for way, method in zip(detectors, below, strict=True):
            model = method.adapt(trained.new_model(way, Path()))
            for stage in way.stages:
                stage.method.check_data(way.data)
                stage.method.check_network(model, way.model)
                choose_trainable(model, stage)


def test_embedded_engine_was_trained_by_what_ships() -> None:
    provenance = read_manifest(EMBEDDED_BUNDLE).provenance
    its = TrainConfig.model_validate(provenance['configuration'])
    whole = config('embedded')
    # Its last stage was run by itself, in 16 bits, from the bundle of the stages before.
    assert its.weights == 'embedded.safetensors'
    (last,) = its.stages
    assert last.model_copy(update={'name': whole.stages[-1].name}) == whole.stages[-1]
    # Processes that read data change nothing of what is read.
    same = {'weights': None, 'precision': 'bf16', 'stages': [], 'workers': 0}
    assert its.model_copy(update=same) == whole.model_copy(update=same)


def test_deeplab_is_trained_as_published() -> None:
    found = config('multishift_deeplab')
    assert found.model == 'deeplabv3plus_wideresnet38'
    assert found.batch_size == 8
    assert found.data.mixup == 0.3
    assert found.data.transforms == DeepLabTransforms(kind='multishift_deeplab', crop=(700, 700))
    first, second = found.stages
    assert (first.epochs, second.epochs) == (9, 40)
    assert second.trainable == ['aspp', 'low', 'uncertainty']
    for stage, rate in ((first, 1e-4), (second, 1e-6)):
        assert stage.optimizer.name == 'adam'
        assert stage.optimizer.learning_rate == rate
        assert stage.optimizer.weight_decay == 1e-4
        assert stage.schedule.kind == 'constant'
        assert stage.batch_norm == 'all'
        assert stage.clip_norm is None
        assert isinstance(stage.method, MultiShift)
        assert stage.method.margins == (10, 5, 5)
        assert stage.method.third_term == 'code'
        assert stage.method.contrastive == 1
        assert stage.method.segmentation == (50, 10)
        assert stage.method.trusted_ratio == 0.8


def test_rule_aug_takes_the_place_of_cg_aug_and_changes_nothing_else() -> None:
    found, published = config('rule_aug_deeplab'), config('multishift_deeplab')
    assert found.data.partners == RuleAugPartnerData(kind='rule_aug')
    assert found.data.transforms == RuleAugTransforms(kind='rule_aug', color=False)
    assert found.model_copy(update={'data': published.data}) == published


def test_mask2former_is_trained_as_published() -> None:
    found = config('multishift_mask2former')
    assert found.model == 'mask2former_resnet50'
    assert found.batch_size == 8
    assert found.data.transforms == Mask2FormerTransforms(
        kind='multishift_mask2former', crop=(700, 700)
    )
    first, second = found.stages
    assert (first.epochs, second.epochs) == (4, 45)
    assert (first.optimizer.name, first.optimizer.learning_rate) == ('adam', 1e-4)
    assert (second.optimizer.name, second.optimizer.learning_rate) == ('adamw', 1e-5)
    assert second.optimizer.weight_decay == 0.05
    assert second.optimizer.decay == 'weights'
    assert second.optimizer.backbone_factor == 0.1
    assert second.clip_norm == 0.01
    assert second.trainable == ['*']
    for stage in found.stages:
        assert isinstance(stage.method, MultiShift)
        assert stage.method.margins == (0.7, 0.5, 0.2)
        assert stage.method.segmentation == (0, 0)
    method = second.method
    assert isinstance(method, MultiShift)
    assert method.masks is not None
    assert method.masks.model_dump() == {'classification': 5, 'mask': 10, 'dice': 10}

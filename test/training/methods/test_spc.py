# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
import torch
from torch import Tensor
from torch.nn import functional as F

from multishift_perception.classes import NOVEL
from multishift_perception.engine import Engine
from multishift_perception.engine.manifest import Calibration
from multishift_perception.errors import MultishiftError
from multishift_training.checkpoints import trained
from multishift_training.datasets import Batch, Sample, TrainingData
from multishift_training.datasets.styles import ROAD_STYLES
from multishift_training.export import export_bundle
from multishift_training.export.deploy_graph import DeployGraph
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.train import train
from multishift_training.methods import Context
from multishift_training.methods.rpl import Rpl
from multishift_training.methods.spc import Spc
from multishift_training.models import SegmentationModel, create
from multishift_training.models.spc import Clusters

Content = dict[str, Any]


def method_of(**options: object) -> Spc:
    return Spc.model_validate({'kind': 'spc', 'sources': 2, **options})


def adapted(method: Spc) -> SegmentationModel:
    torch.manual_seed(0)
    return method.adapt(create('deeplabv3plus_compact')).double().eval()


def batch_of(domains: list[int]) -> Batch:
    g = torch.Generator().manual_seed(1)
    count = len(domains)
    labels = torch.randint(0, 3, (count, 8, 8), generator=g).repeat_interleave(8, 1)
    labels = labels.repeat_interleave(8, 2)
    images = torch.randn(count, 3, 64, 64, generator=g, dtype=torch.float64)
    return Batch(images, labels, 1, {}, torch.tensor(domains))


def step(method: Spc, model: SegmentationModel, batch: Batch) -> dict[str, Tensor]:
    context = Context(model, None, None, None, lambda values: values)
    return method.losses(model(batch.images), batch, context)


def clusters_of(model: SegmentationModel) -> Clusters:
    clusters = model.get_submodule('classifier')
    assert isinstance(clusters, Clusters)
    return clusters


def test_bases_of_the_domains_in_a_batch_move_as_averages_do() -> None:
    method = method_of(sources=3, style_momentum=0.75, semantic_momentum=0.5)
    model = adapted(method)
    batch = batch_of([2, 0, 2])
    tap = model.get_submodule('backbone.low_tap')
    styles, bases = tap.get_buffer('bases').clone(), clusters_of(model).by_domain.clone()
    said = model(batch.images).auxiliary
    assert said is not None
    step(method, model, batch)
    new = tap.get_buffer('bases')
    assert torch.equal(new[1], styles[1])  # none of its images is there
    for domain, images in ((0, [1]), (2, [0, 2])):
        mean = torch.stack([said['low_style'][i] for i in images]).mean(0)
        torch.testing.assert_close(new[domain], 0.75 * styles[domain] + 0.25 * mean)
    found = clusters_of(model).by_domain
    assert torch.equal(found[1], bases[1]) and torch.equal(found[:, 3:], bases[:, 3:])
    coarse = batch.labels[:, ::4, ::4]
    for domain, images in ((0, [1]), (2, [0, 2])):
        for label in range(3):
            points = [
                said['embeddings'][i, :, y, x]
                for i in images
                for y, x in (coarse[i] == label).nonzero().tolist()
            ]
            mean = F.normalize(torch.stack(points).mean(0), dim=0)
            wanted = F.normalize(0.5 * bases[domain, label] + 0.5 * mean, dim=0)
            torch.testing.assert_close(found[domain, label], wanted, rtol=1e-6, atol=1e-9)


def test_gradients_do_not_depend_on_where_the_bases_move() -> None:
    batch, gradients = batch_of([0, 1]), []
    for momentum in (0, 0.9):
        method = method_of(variance=1, discrimination=1, semantic_momentum=momentum)
        model = adapted(method)
        total = torch.stack(list(step(method, model, batch).values())).sum()
        gradients.append(
            torch.autograd.grad(total, [p for n, p in model.named_parameters() if 'low' in n])
        )
    for one, two in zip(*gradients, strict=True):
        assert torch.equal(one, two) and one.any()


@pytest.mark.parametrize('domains', [[0], [1, 1]])
def test_one_image_or_one_domain_is_finite(domains: list[int]) -> None:
    method = method_of()
    losses = step(method, adapted(method), batch_of(domains))
    assert torch.stack(list(losses.values())).isfinite().all()


def test_momentum_rises() -> None:
    method = method_of(ramp_steps=10)
    found = [float(method._momentum(torch.tensor(n))) for n in (0, 5, 10, 20)]
    assert found == pytest.approx([np.exp(-0.1), np.exp(-0.025), 0.999, 0.999], rel=1e-6)
    model = adapted(method)
    step(method, model, batch_of([0, 1]))
    assert clusters_of(model).steps == 1


def test_parts_can_be_left_out() -> None:
    plain, batch = method_of(projection='off', clustering=False), batch_of([0, 1])
    assert list(step(plain, adapted(plain), batch)) == ['cross_entropy']
    projecting = method_of(clustering=False)
    model = adapted(projecting)
    assert list(step(projecting, model, batch)) == ['cross_entropy']
    assert isinstance(model.get_submodule('classifier'), torch.nn.Conv2d)
    clustering = method_of(projection='off')
    model = adapted(clustering)
    assert len(step(clustering, model, batch)) == 3
    assert not [name for name, _ in model.named_buffers() if 'tap' in name]


def test_rpl_may_follow_in_one_run() -> None:
    method, batch = method_of(), batch_of([0, 1])
    alone = step(method, adapted(method), batch)
    rpl = Rpl(kind='rpl')
    model = rpl.adapt(adapted(method)).double().eval()
    for name, value in step(method, model, batch).items():
        torch.testing.assert_close(value, alone[name])
    labels = batch.labels.clone()
    labels[:, :8] = NOVEL
    context = Context(model, None, None, None, lambda values: values)
    parts = rpl.losses(model(batch.images), batch._replace(labels=labels), context)
    total = torch.stack(list(parts.values())).sum()
    gradients = torch.autograd.grad(total, list(model.get_submodule('residual').parameters()))
    assert total.isfinite() and any(g.any() for g in gradients)


def data_of(*domains: str) -> TrainingData:
    drive = {'kind': 'sample_drive', 'split': 'train', 'frames': 8, 'seed': 1}
    images = [{**drive, 'domain': name} for name in domains]
    return TrainingData.model_validate(
        {'images': images, 'transforms': {'kind': 'zoom_crop', 'crop': [64, 64]}}
    )


def test_refuses_other_domains_and_networks_in_one_line() -> None:
    method_of(sources=3).check_data(data_of('a', 'b', 'c'))
    with pytest.raises(MultishiftError) as caught:
        method_of(sources=1).check_data(data_of('a', 'b', 'c'))
    assert str(caught.value) == (
        'method spc has bases for sources: 1, and data.images are 3 domains: set sources to 3'
    )
    with torch.device('meta'):
        model = create('segformer_b0')
    with pytest.raises(MultishiftError) as caught:
        method_of().check_network(model, 'segformer_b0')
    assert str(caught.value) == (
        'method spc projects styles in the backbone of a DeepLab, which segformer_b0 lacks: '
        'choose a deeplabv3plus network'
    )


def test_a_single_source_is_seen_in_ten_looks() -> None:
    method = method_of(sources=1)
    assert method.domains == len(ROAD_STYLES) == 10
    assert method_of(sources=1, single_source='one').domains == 1
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    sample = Sample(image, np.full((2, 64, 96), NOVEL, np.uint8))
    rng = np.random.default_rng(1)
    seen = [method.views(sample, rng) for _ in range(20)]
    drawn = {int(style) for found in seen for style in found.extras['style']}
    assert drawn == set(range(10))
    for found in seen:
        for before, after, style in zip(image, found.images, found.extras['style'], strict=True):
            assert np.array_equal(before, after) == (ROAD_STYLES[style] == 'plain')
    again = method.views(sample, np.random.default_rng(1))
    assert np.array_equal(again.images, seen[0].images)
    assert method_of().views(sample, rng) is sample


@pytest.fixture(scope='module')
def run(
    two_domains: Callable[..., Content], new_folder: Callable[[], Path]
) -> tuple[TrainConfig, Path]:
    """Two sources, one of them with coarse labels only, which no semantic base learns."""
    stage = {
        'name': 'spc',
        'epochs': 1,
        'trainable': ['*'],
        'method': {'kind': 'spc', 'sources': 2},
        'optimizer': {'learning_rate': 1e-2},
    }
    content = two_domains(stages=[stage], monitor='miou')
    for domain in (content['data'], content['data']['images'][0]):
        del domain['partners']
    config, folder = TrainConfig.model_validate(content), new_folder()
    train(config, folder, root=Path())
    return config, folder


@pytest.mark.slow
@pytest.mark.usefixtures('one_thread')
def test_two_sources_train_and_become_one_graph(
    run: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    config, folder = run
    saved = load_file(folder / 'best.safetensors')
    styles = saved['backbone.low_tap.bases']
    assert styles.shape == (2, 2, 40) and (styles[:, 1] != 1).all()
    torch.manual_seed(config.seed)
    before = method_of().adapt(create(config.model)).get_buffer('classifier.bases')
    learned = (saved['classifier.bases'] != before).flatten(1).any(1).view(2, 19)
    assert learned[0].any() and not learned.all()
    model = trained.open_trained(folder / 'best.safetensors').model
    assert torch.equal(model.get_buffer('classifier.bases'), saved['classifier.bases'])
    calibration = Calibration(
        knots=[(0, 0), (2, 255)], operating_point=1, rule='made up', dataset='none'
    )
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 96, 3), np.uint8)
    bundle = tmp_path / 'engine'
    export_bundle(
        bundle, DeployGraph(model, calibration), calibration=calibration, probes=frames,
        targets=['openvino'], model=config.model, method='spc', provenance={},
    )  # fmt: skip
    with Engine.load(bundle, backend='openvino') as engine:  # proves it on the probes
        found = engine.infer(frames[0])
    assert found.label.max() < 19 and 0 <= found.score.min() <= found.score.max() <= 2

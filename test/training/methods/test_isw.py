# SPDX-License-Identifier: Apache-2.0
"""IBN and ISW: what they add, and when ISW looks and whitens."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, Sample, collate
from multishift_training.losses.whitening import covariance_variance, sensitive, whitening
from multishift_training.methods import Context
from multishift_training.methods.ibn import Ibn
from multishift_training.methods.isw import Isw
from multishift_training.models import SegmentationModel, create
from multishift_training.models.input_scale import Normalize


def method_of(**options: object) -> Isw:
    return Isw.model_validate({'kind': 'isw', **options})


def made(method: Isw, members: int = 1) -> tuple[Context, Batch]:
    torch.manual_seed(0)
    model = method.adapt(create('deeplabv3plus_compact'))
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(2):
        images = rng.integers(0, 256, (members, 64, 64, 3), np.uint8)
        samples.append(method.views(Sample(images, np.zeros((members, 64, 64), np.uint8)), rng))
    batch = collate(samples)
    context = Context(model, method.make_state(model), None, None, lambda values: values)
    return context, batch._replace(labels=batch.labels.long())


def step(
    method: Isw, context: Context, batch: Batch
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    images = Normalize(context.model.input_scale)(batch.images)
    prediction = context.model(images)
    assert prediction.auxiliary is not None
    return method.losses(prediction, batch, context), prediction.auxiliary


def seen(model: SegmentationModel, images: Tensor) -> Tensor:
    evaluated = copy.deepcopy(model).eval()
    with torch.no_grad():
        prediction = evaluated(Normalize(model.input_scale)(images))
    assert prediction.auxiliary is not None
    found: Tensor = prediction.auxiliary['isw_stem']
    return found


@pytest.mark.parametrize('members', [1, 2])
def test_looks_after_the_first_steps_then_whitens_what_varies(members: int) -> None:
    method = method_of(warmup_steps=1, trials=2, trial_steps=1, whitening=2)
    context, batch = made(method, members)
    context.model.eval()  # so that a step changes no statistics
    assert context.state is not None
    mask = context.state.get_buffer('mask_stem')
    everything = mask.clone()
    pair = batch.images.chunk(2) if members == 2 else (batch.images, batch.extras['changed'])
    varies = sensitive(covariance_variance(*(seen(context.model, x) for x in pair)).mean(0), 3)
    assert 0 < varies.sum() < everything.sum()
    assert step(method, context, batch)[0]['whitening'] == 0 and torch.equal(mask, everything)
    assert step(method, context, batch)[0]['whitening'] == 0 and torch.equal(mask, varies)
    mask.copy_(everything)
    mask[0] = False  # as if the first trial had not found these
    losses, said = step(method, context, batch)
    varies[0] = False
    assert torch.equal(mask, varies)
    masks = {name: context.state.get_buffer(name.replace('isw', 'mask')) for name in said}
    each = [whitening(x, masks[name]) for name, x in said.items()]
    assert len(each) == 3
    wanted = 2 * torch.stack(each).mean()
    assert losses['whitening'].item() == pytest.approx(wanted.item(), rel=1e-6)
    assert wanted > 0 and step(method, context, batch)[0]['whitening'] == losses['whitening']


def test_looking_moves_nothing_of_the_network() -> None:
    method = method_of(warmup_steps=0, trials=1, trial_steps=1)
    context, batch = made(method)
    images = Normalize(context.model.input_scale)(batch.images)
    prediction = context.model.train()(images)
    frozen = context.model.get_submodule('backbone.trunk').eval()
    before = {key: value.clone() for key, value in context.model.state_dict().items()}
    method.losses(prediction, batch, context)
    assert all(torch.equal(value, before[k]) for k, value in context.model.state_dict().items())
    assert context.model.get_submodule('backbone.stem').training and not frozen.training


def test_looks_in_the_precision_of_the_run() -> None:
    method = method_of(warmup_steps=0, trials=1, trial_steps=1)
    context, batch = made(method)
    prediction = context.model(Normalize(context.model.input_scale)(batch.images))
    found = []
    context.model.backbone.register_forward_hook(
        lambda backbone, images, features: found.append(features[-1].dtype)
    )
    mixed = context._replace(autocast=lambda: torch.autocast('cpu', torch.bfloat16))
    method.losses(prediction, batch, mixed)
    assert found == [torch.bfloat16] * 2
    assert context.state is not None and context.state.get_buffer('mask_stem').any()


def test_the_engine_has_norms_and_no_loss() -> None:
    plain = create('deeplabv3plus_compact')
    added = set(method_of().adapt(create('deeplabv3plus_compact')).state_dict()) - set(
        plain.state_dict()
    )
    assert not added
    ibn = Ibn(kind='ibn').adapt(create('deeplabv3plus_compact'))
    assert len(set(ibn.state_dict()) - set(plain.state_dict())) == 4
    half = Ibn(kind='ibn', variant='a').adapt(create('deeplabv3plus_compact'))
    assert sum(p.numel() for p in half.parameters()) == sum(p.numel() for p in plain.parameters())


@pytest.mark.parametrize('name', ['segformer_b0', 'deeplabv3plus_wideresnet38'])
@pytest.mark.parametrize('method', [Ibn(kind='ibn'), method_of()], ids=['ibn', 'isw'])
def test_refuses_other_networks_in_one_line(method: Ibn | Isw, name: str) -> None:
    with torch.device('meta'):
        model = create(name)
    with pytest.raises(MultishiftError) as caught:
        method.check_network(model, name)
    assert str(caught.value) == (
        f'method {method.kind} puts instance norms into the backbone of a DeepLab, and knows no '
        f'place for them in {name}: choose deeplabv3plus_compact, _efficientnet_lite0, '
        '_lite1, _lite2, _resnet50 or _resnet101'
    )

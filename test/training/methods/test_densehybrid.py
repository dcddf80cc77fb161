# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch
from multishift_training.loop.config import TrainConfig
from multishift_training.methods import Context
from multishift_training.methods.densehybrid import DenseHybrid
from multishift_training.models import create
from multishift_training.models.densehybrid import hybrid_score

Content = dict[str, Any]


def test_adds_a_discriminator_and_changes_no_class() -> None:
    torch.manual_seed(0)
    model = create('deeplabv3plus_compact').eval()
    image = torch.randn(1, 3, 64, 64)
    before, names = model(image), set(model.state_dict())
    # As another method of the run would, whose losses read it.
    model.register_forward_hook(lambda _, __, said: said.with_auxiliary({'other': said.score}))
    method = DenseHybrid(kind='densehybrid', norm=False)
    after = method.adapt(model)(image, (32, 32))
    added = {'discriminator.layers.0.weight', 'discriminator.layers.0.bias'}
    assert set(model.state_dict()) == names | added
    assert torch.equal(model(image).logits, before.logits)
    assert set(after.auxiliary) == {'other', 'discriminator'}
    said = after.auxiliary['discriminator']
    assert said.shape == (1, 1, 32, 32)
    assert torch.equal(after.score, hybrid_score(after.logits, said, 'hybrid'))


def test_weighs_its_parts() -> None:
    torch.manual_seed(0)
    model = create('deeplabv3plus_compact')
    labels = torch.randint(0, 19, (2, 64, 64))
    labels[:, :20] = NOVEL
    found: list[dict[str, Tensor]] = []
    for weights in ((1, 1), (3, 5)):
        method = DenseHybrid(kind='densehybrid', likelihood=weights[0], discriminator=weights[1])
        if not found:
            method.adapt(model).eval()
        prediction = model(torch.ones(2, 3, 64, 64))
        batch = Batch(torch.zeros(2, 64, 64, 3), labels, 1, {}, torch.zeros(2))
        context = Context(model, None, None, None, lambda values: values)
        found.append(method.losses(prediction, batch, context))
    one, weighted = found
    assert weighted['cross_entropy'].item() == one['cross_entropy'].item() > 0
    assert weighted['likelihood'].item() == pytest.approx(3 * one['likelihood'].item())
    assert weighted['discriminator'].item() == pytest.approx(5 * one['discriminator'].item())


def test_weights_classes_where_told() -> None:
    rarity = torch.rand(19)
    method = DenseHybrid(kind='densehybrid', class_weights=True)
    assert method.weights_of_classes(create('deeplabv3plus_compact'), lambda: rarity) is rarity


@pytest.mark.parametrize('kind', ['densehybrid', 'rpl'])
def test_asks_for_something_novel_in_one_line(kind: str, content: Callable[..., Content]) -> None:
    stage = {'name': 'own', 'epochs': 1, 'trainable': ['*'], 'method': {'kind': kind}}
    run = content(stages=[{**stage, 'optimizer': {'learning_rate': 1}}])
    config = TrainConfig.model_validate(run)
    config.stages[0].method.check_data(config.data)  # the sample drive has novel objects
    run['data'] = {'images': {'kind': 'camvid', 'split': 'train'}}
    run['data']['transforms'] = {'kind': 'zoom_crop', 'crop': [64, 96]}
    config = TrainConfig.model_validate(run)
    with pytest.raises(MultishiftError) as caught:
        config.stages[0].method.check_data(config.data)
    assert str(caught.value) == (
        f'method {kind} learns from outliers, and the data show none: set data.outliers'
    )


def test_refuses_networks_that_classify_no_pixels_in_one_line() -> None:
    model = create('deeplabv3plus_compact')
    del model.classifier
    with pytest.raises(MultishiftError) as caught:
        DenseHybrid(kind='densehybrid').check_network(model, 'my_network')
    assert str(caught.value) == (
        'method densehybrid is for networks whose `classifier` is a convolution over pixels, '
        'which my_network is not: choose another network or method'
    )

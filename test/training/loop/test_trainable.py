# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from torch import nn

from multishift_perception.errors import MultishiftError
from multishift_training.loop.config import Optimizer, Stage
from multishift_training.loop.trainable import (
    check_learning_rates,
    check_one_image,
    check_reach,
    choose_trainable,
    set_training_mode,
    small_batch,
)
from multishift_training.methods import Context, Method
from multishift_training.methods.rpl import Rpl
from multishift_training.models import create
from multishift_training.models.layers import conv_bn_relu


def stage(trainable: list[str], batch_norm: str = 'all') -> Stage:
    return Stage.model_validate(
        {
            'name': 'some',
            'epochs': 1,
            'trainable': trainable,
            'batch_norm': batch_norm,
            'method': {'kind': 'closed_world'},
            'optimizer': Optimizer(learning_rate=1),
        }
    )


@pytest.fixture
def network() -> nn.Module:
    parts = {
        'low': conv_bn_relu(3, 4),
        'lower': conv_bn_relu(4, 4),
        'rest': nn.Sequential(conv_bn_relu(4, 4), nn.Dropout(), nn.Conv2d(4, 4, 1)),
    }
    return nn.ModuleDict(parts)


def learning(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_prefixes_name_whole_parts(network: nn.Module) -> None:
    every = {name for name, _ in network.named_parameters()}
    choose_trainable(network, stage(['low']))
    assert learning(network) == {name for name in every if name.startswith('low.')}
    choose_trainable(network, stage(['lower', 'rest.2.bias']))
    expected = {name for name in every if name.startswith('lower.')} | {'rest.2.bias'}
    assert learning(network) == expected
    choose_trainable(network, stage(['*']))
    assert learning(network) == every


def test_unknown_part(network: nn.Module) -> None:
    with pytest.raises(MultishiftError, match="stage some: trainable 'lo' is no part") as caught:
        choose_trainable(network, stage(['low', 'lo']))
    assert 'low, lower, rest (or * for all)' in str(caught.value)
    with pytest.raises(MultishiftError, match=r'did you mean rest\.2\.bias\?'):
        choose_trainable(network, stage(['rest.2.bia']))


def modes(network: nn.Module) -> dict[str, bool]:
    return {
        name: module.training
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }


@pytest.mark.parametrize(
    ('batch_norm', 'expected'),
    [
        ('all', {'low.1': True, 'lower.1': True, 'rest.0.1': True}),
        ('trained', {'low.1': False, 'lower.1': True, 'rest.0.1': False}),
        ('frozen', {'low.1': False, 'lower.1': False, 'rest.0.1': False}),
    ],
)
def test_batch_norms(network: nn.Module, batch_norm: str, expected: dict[str, bool]) -> None:
    network.eval()
    wanted = stage(['lower', 'rest.2'], batch_norm)
    choose_trainable(network, wanted)
    set_training_mode(network, wanted)
    assert modes(network) == expected
    assert network['rest'][1].training  # dropout, whatever the batch norms do
    # And another stage of the same run starts from there.
    set_training_mode(network, stage(['*']))
    assert all(modes(network).values())


@pytest.mark.parametrize('batch_norm', ['all', 'trained'])
def test_frozen_parts_run_as_in_evaluation_where_the_method_wants_it(
    network: nn.Module, batch_norm: str
) -> None:
    wanted = stage(['lower'], batch_norm).model_copy(update={'method': Rpl(kind='rpl')})
    choose_trainable(network, wanted)
    set_training_mode(network, wanted)
    assert {name: part.training for name, part in network.named_children()} == {
        'low': False,
        'lower': True,
        'rest': False,
    }
    assert not network['rest'][1].training  # dropout
    assert modes(network) == {'low.1': False, 'lower.1': True, 'rest.0.1': False}


@pytest.mark.slow
def test_norms_frozen_for_good_stay_so() -> None:
    network = create('mask2former_resnet50')
    choose_trainable(network, stage(['*']))
    names = [name for name in learning(network) if name.startswith('backbone.')]
    assert len(names) == 53
    assert all(name.endswith('convolution.weight') for name in names)


def test_one_image_per_process_and_what_is_pooled() -> None:
    pooled = nn.Sequential(conv_bn_relu(3, 4), nn.AdaptiveAvgPool2d(1), conv_bn_relu(4, 4))
    before = {name: value.clone() for name, value in pooled.state_dict().items()}
    with pytest.raises(MultishiftError, match=r'batch norm 2\.1 .* batch_size to 6 or more'):
        check_one_image(pooled, stage(['*']), (8, 8), 3)
    assert all(torch.equal(value, before[name]) for name, value in pooled.state_dict().items())
    assert not any(module._forward_pre_hooks for module in pooled.modules())
    check_one_image(pooled, stage(['*'], 'frozen'), (8, 8), 3)
    check_one_image(pooled[0], stage(['*']), (8, 8), 3)
    with pytest.raises(MultishiftError, match=r'batch norm 1 '):
        check_one_image(pooled[0], stage(['*']), (1, 1), 1)


METHODS: dict[str, dict[str, object]] = {
    'closed_world': {'kind': 'closed_world'},
    'closed_masks': {'kind': 'closed_world', 'masks': {}},
    'contrastive': {'kind': 'multishift', 'margins': [1, 1, 1], 'segmentation': [0, 0]},
    'sampled': {
        'kind': 'multishift',
        'margins': [1, 1, 1],
        'segmentation': [0, 0],
        'pairs': 'sampled',
    },
    'masks': {'kind': 'multishift', 'margins': [1, 1, 1], 'masks': {}},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'method', 'part', 'reaches'),
    [
        ('deeplabv3plus_compact', 'closed_world', 'uncertainty', False),
        ('deeplabv3plus_compact', 'closed_world', 'classifier', True),
        ('deeplabv3plus_compact', 'sampled', 'classifier', False),
        ('deeplabv3plus_compact', 'sampled', 'uncertainty', True),
        ('segformer_b0', 'contrastive', 'backbone', True),
        ('pidnet_s', 'closed_world', 'backbone', True),
        ('pidnet_s', 'contrastive', 'decoder', True),
        ('mask2former_resnet50', 'closed_masks', 'uncertainty', False),
        ('mask2former_resnet50', 'masks', 'uncertainty', True),
    ],
)
def test_reach_of_losses_changes_nothing(name: str, method: str, part: str, reaches: bool) -> None:
    network = create(name)
    wanted = Stage.model_validate({**stage([part]).model_dump(), 'method': METHODS[method]})
    choose_trainable(network, wanted)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    weights = wanted.method.weights_of_classes(network, torch.Tensor)
    context = Context(network, None, weights, None, lambda values: values)
    batch = small_batch(wanted.method, 2)
    if reaches:
        check_reach(wanted, batch, context)
    else:
        with pytest.raises(MultishiftError, match=f'no loss of its method depends on {part}'):
            check_reach(wanted, batch, context)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


class Odd(Method):
    """Gives what it is told to."""

    kind: Literal['odd']
    factors: dict[str, float] = {}
    given: Any = None

    @property
    def learning_rate_factors(self) -> Mapping[str, float]:
        return self.factors

    def losses(self, prediction: Any, batch: Any, context: Context) -> Any:
        return self.given


def odd(**fields: object) -> Stage:
    return stage(['*']).model_copy(update={'method': Odd(kind='odd', **fields)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('prefix', 'hint'),
    [
        ('head', ' (did you mean state.head?)'),
        ('state.haed', ' (did you mean state.head?)'),
        ('lo', ' (did you mean low?)'),
        ('nowhere_at_all', ''),
    ],
)
def test_learning_rates_of_parts_that_are_not_there(
    network: nn.Module, prefix: str, hint: str
) -> None:
    state = nn.ModuleDict({'head': nn.Linear(2, 2)})
    check_learning_rates(network, state, odd(factors={'state.head': 9.0, 'low': 2.0, '*': 0.5}))
    with pytest.raises(MultishiftError) as caught:
        check_learning_rates(network, state, odd(factors={'low': 2.0, prefix: 10.0}))
    assert str(caught.value) == (
        f"stage some: method odd gives a learning rate factor to '{prefix}', which is no part of "
        f'the network or of its own state{hint}: parts of the state start with `state.`'
    )
    with pytest.raises(MultishiftError, match=r"factor to 'state\.head', which is no part"):
        check_learning_rates(network, None, odd(factors={'state.head': 9.0}))


@pytest.mark.parametrize(
    ('losses', 'message'),
    [
        (
            torch.ones(()),
            'losses that are a tensor of shape []: return a dict of scalars by name',
        ),
        (None, 'losses that are of type NoneType: return a dict of scalars by name'),
        ({}, 'no loss: return a dict of scalars by name'),
        (
            {'near': torch.ones(2, 3)},
            'a loss near that is a tensor of shape [2, 3]: return a scalar tensor, such as the '
            'mean',
        ),
        (
            {'near': 1.0},
            'a loss near that is of type float: return a scalar tensor, such as the mean',
        ),
    ],
)
def test_losses_that_are_no_scalars_by_name(losses: object, message: str) -> None:
    network = create('deeplabv3plus_compact')
    wanted = odd(given=losses)
    context = Context(network, None, None, None, lambda values: values)
    with pytest.raises(MultishiftError) as caught:
        check_reach(wanted, small_batch(wanted.method, 1), context)
    assert str(caught.value) == f'stage some: method odd returns {message}'


def test_network_that_does_not_enlarge_is_refused() -> None:
    network = create('deeplabv3plus_compact')
    network.register_forward_hook(
        lambda model, _, found: found._replace(logits=found.logits[..., ::4, ::4])
    )
    wanted = stage(['*'])
    context = Context(network, None, None, None, lambda values: values)
    message = (
        r'the network gives logits of shape \[2, 19, 16, 16\] for images of \[64, 64\]: enlarge'
    )
    with pytest.raises(MultishiftError, match=message):
        check_reach(wanted, small_batch(wanted.method, 1), context)

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from multishift_training.loop.config import Optimizer, Schedule
from multishift_training.loop.optimizers import make_optimizer, rate_factor, set_learning_rate


class Network(nn.Module):
    """A part of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.backbone_head = nn.Linear(4, 4)  # no part of the backbone
        self.norms = nn.ModuleList([nn.LayerNorm(4), nn.GroupNorm(2, 4)])
        self.codes = nn.Embedding(3, 4)
        self.fixed = nn.Linear(4, 4).requires_grad_(False)


def settings(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, tuple[float, ...]]:
    """Return learning rate and weight decay of each parameter, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, tuple[float, ...]] = {}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group['lr'], group['weight_decay'])
    return found


def test_backbone_and_what_has_no_direction_have_rates_of_their_own() -> None:
    model = Network()
    config = Optimizer(
        name='adamw', learning_rate=0.5, weight_decay=0.05, decay='weights', backbone_factor=0.1
    )
    assert settings(make_optimizer(model, config), model) == {
        'backbone.0.weight': (0.05, 0.05),
        'backbone.0.bias': (0.05, 0.05),
        'backbone.1.weight': (0.05, 0),
        'backbone.1.bias': (0.05, 0),
        'backbone_head.weight': (0.5, 0.05),
        'backbone_head.bias': (0.5, 0.05),
        'norms.0.weight': (0.5, 0),
        'norms.0.bias': (0.5, 0),
        'norms.1.weight': (0.5, 0),
        'norms.1.bias': (0.5, 0),
        'codes.weight': (0.5, 0),
    }


def test_one_rate_and_decay_unless_told_otherwise() -> None:
    model = Network()
    config = Optimizer(learning_rate=0.5, weight_decay=0.01)
    found = settings(make_optimizer(model, config), model)
    assert set(found.values()) == {(0.5, 0.01)}
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found.keys() == learning


@pytest.mark.parametrize(
    ('name', 'kind'),
    [('adam', torch.optim.Adam), ('adamw', torch.optim.AdamW), ('sgd', torch.optim.SGD)],
)
def test_optimizer_by_name(name: str, kind: type[torch.optim.Optimizer]) -> None:
    config = Optimizer.model_validate({'name': name, 'learning_rate': 0.1, 'momentum': 0.7})
    optimizer = make_optimizer(Network(), config)
    assert type(optimizer) is kind
    assert all(group.get('momentum', 0.7) == 0.7 for group in optimizer.param_groups)


def steps_of(name: str, weight_decay: float) -> Tensor:
    """Return a weight after two steps of gradient 1."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    config = Optimizer.model_validate(
        {'name': name, 'learning_rate': 0.1, 'weight_decay': weight_decay}
    )
    optimizer = make_optimizer(model, config)
    for _ in range(2):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
    return model.weight.detach()


def test_adam_adds_decay_to_the_gradient_and_adamw_does_not() -> None:
    # Adam's steps do not depend on the gradient's size, so neither does decay show in them.
    assert steps_of('adam', 0.5).item() == pytest.approx(1.8, abs=1e-2)
    assert steps_of('adamw', 0.5).item() == pytest.approx((2 * 0.95 - 0.1) * 0.95 - 0.1, abs=1e-4)
    assert steps_of('sgd', 0).item() == pytest.approx(2 - 0.1 - 0.19)


SCHEDULES = {
    'constant': (Schedule(), [1, 1, 1, 1, 1, 1, 1, 1]),
    'cosine': (
        Schedule(kind='cosine'),
        [(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)],
    ),
    'poly': (Schedule(kind='poly'), [(1 - i / 8) ** 0.9 for i in range(8)]),
    'poly of power 2': (Schedule(kind='poly', power=2), [(1 - i / 8) ** 2 for i in range(8)]),
    'warm-up': (Schedule(warmup_steps=4), [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
    'warm-up, then poly': (
        Schedule(kind='poly', power=1, warmup_steps=3),
        [1 / 3, 2 / 3, 1, 1, 0.8, 0.6, 0.4, 0.2],
    ),
    'nothing but warm-up': (
        Schedule(kind='cosine', warmup_steps=10),
        [(i + 1) / 10 for i in range(8)],
    ),
}


@pytest.mark.parametrize('name', SCHEDULES)
def test_learning_rate_over_steps(name: str) -> None:
    schedule, factors = SCHEDULES[name]
    assert [rate_factor(schedule, step, 8) for step in range(8)] == pytest.approx(factors)


def test_rates_of_a_step_follow_from_nothing_else() -> None:
    """However an optimiser came there, from a saved state or with other steps in between."""
    model, schedule = Network(), Schedule(kind='poly', warmup_steps=2)
    config = Optimizer(learning_rate=0.5, backbone_factor=0.1)
    optimizer = make_optimizer(model, config)
    for step in (5, 0, 3):
        set_learning_rate(optimizer, schedule, step, 10)
    rates = [group['lr'] for group in optimizer.param_groups]
    resumed = make_optimizer(model, config)
    resumed.load_state_dict(optimizer.state_dict())
    set_learning_rate(resumed, schedule, 3, 10)
    assert [group['lr'] for group in resumed.param_groups] == rates
    factor = (1 - 1 / 8) ** 0.9
    assert rates == pytest.approx([0.05 * factor, 0.5 * factor])


def test_state_of_a_method_moves_too_and_parts_have_factors() -> None:
    model = Network()
    state = nn.ModuleDict({'head': nn.Linear(4, 1), 'norm': nn.LayerNorm(4)})
    config = Optimizer(learning_rate=0.5, weight_decay=0.05, decay='weights', backbone_factor=0.1)
    factors = {'state.head': 10.0, 'backbone.0': 2.0, 'code': 7.0}
    optimizer = make_optimizer(model, config, state, factors)
    found = settings(optimizer, nn.ModuleDict({'model': model, 'state': state}))
    assert found['state.head.weight'] == (5, 0.05)
    assert found['state.norm.weight'] == (0.5, 0)
    assert found['model.backbone.0.weight'] == (0.1, 0.05)
    assert found['model.backbone.1.weight'] == (0.05, 0)
    assert found['model.codes.weight'] == (0.5, 0)  # a prefix names a whole part

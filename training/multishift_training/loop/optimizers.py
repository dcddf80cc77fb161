# SPDX-License-Identifier: Apache-2.0
"""Optimisers and learning rates of a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
import math

import torch
from torch import nn

from multishift_training.loop.config import Optimizer, Schedule
from multishift_training.loop.trainable import under

# Layers whose weights are scales, shifts or codes rather than directions.
_SPARED = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding)


def make_optimizer(
    model: nn.Module,
    config: Optimizer,
    state: nn.Module | None = None,
    factors: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Return an optimiser of the parameters that learn.

    Args:
        model: the network.
        config: of the optimiser.
        state: what a method trains beside the network.
        factors: of the learning rate, by prefix of the network's parameters and, below
            ``state``, of the state's.
    """
    groups = list(_groups(model, config, state, factors or {}))
    match config.name:
        case 'adam':
            return torch.optim.Adam(groups, config.learning_rate)
        case 'adamw':
            return torch.optim.AdamW(groups, config.learning_rate)
        case 'sgd':
            return torch.optim.SGD(groups, config.learning_rate, config.momentum)


def _groups(
    model: nn.Module, config: Optimizer, state: nn.Module | None, factors: Mapping[str, float]
) -> Iterator[dict[str, object]]:
    """Yield the parameters by learning rate and weight decay; ``base`` is their own full rate."""
    spared = {
        id(parameter)
        for part in (model, state)
        if part is not None
        for module in part.modules()
        if config.decay == 'weights' and isinstance(module, _SPARED)
        for parameter in module.parameters(recurse=False)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    beside = () if state is None else state.named_parameters(prefix='state')
    for name, parameter in chain(model.named_parameters(), beside):
        if parameter.requires_grad:
            factor = config.backbone_factor if name.startswith('backbone.') else 1.0
            factor *= math.prod(f for prefix, f in factors.items() if under(name, prefix))
            decay = 0.0 if id(parameter) in spared else config.weight_decay
            groups.setdefault((config.learning_rate * factor, decay), []).append(parameter)
    for (rate, decay), parameters in groups.items():
        yield {'params': parameters, 'lr': rate, 'base': rate, 'weight_decay': decay}


def set_learning_rate(
    optimizer: torch.optim.Optimizer, schedule: Schedule, step: int, steps: int
) -> None:
    """Set the rates for a step of a stage; they depend on nothing else, so runs resume exactly."""
    factor = rate_factor(schedule, step, steps)
    for group in optimizer.param_groups:
        group['lr'] = group['base'] * factor


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """Return the share of the full learning rate at a step of a stage of ``steps`` steps."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    share = (step - schedule.warmup_steps) / max(steps - schedule.warmup_steps, 1)
    match schedule.kind:
        case 'constant':
            return 1.0
        case 'cosine':
            return (1 + math.cos(math.pi * share)) / 2
        case 'poly':
            return float((1 - share) ** schedule.power)

"""Which parts of a network learn in a stage, and which run as in evaluation."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from multishift_perception.errors import MultishiftError
from multishift_training.config import Stage
from multishift_training.models.mask2former import Mask2Former


def choose_trainable(model: nn.Module, stage: Stage) -> None:
    """Let the parameters learn that a stage names, and no others.

    What a network froze for good, as Mask2Former's batch norms, is no parameter but a buffer.

    Raises:
        MultishiftError: a name is no part of the network.
    """
    names = [name for name, _ in model.named_parameters()]
    for prefix in stage.trainable:
        if not any(_under(name, prefix) for name in names):
            parts = sorted({name.split('.')[0] for name in names})
            raise MultishiftError(
                f'stage {stage.name}: trainable {prefix!r} is no part of the network: it has '
                f'{", ".join(parts)} (or * for all)'
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(_under(name, prefix) for prefix in stage.trainable))


def set_training_mode(model: nn.Module, stage: Stage) -> None:
    """Put the network in training mode, its batch norms and its masks as the stage wants them."""
    model.train()
    for module in model.modules():
        if isinstance(module, Mask2Former):
            module.classes_first = stage.method.masks is not None
    if stage.batch_norm == 'all':
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            learns = any(p.requires_grad for p in module.parameters())
            module.train(learns and stage.batch_norm == 'trained')


def _under(name: str, prefix: str) -> bool:
    return prefix == '*' or name == prefix or name.startswith(prefix + '.')

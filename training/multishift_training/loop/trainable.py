"""Which parts of a network learn in a stage, and which run as in evaluation."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_perception.schema.words import did_you_mean
from multishift_training.loop.config import Stage
from multishift_training.methods import Losses
from multishift_training.models import SegmentationModel
from multishift_training.models.mask2former import Mask2Former

# Rows and columns of an image that every network takes.
_SMALL = (64, 64)


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
            every = {p for name in names for p in accumulate(name.split('.'), '{}.{}'.format)}
            raise MultishiftError(
                f'stage {stage.name}: trainable {prefix!r} is no part of the network'
                f'{did_you_mean(prefix, sorted(every))}: it has {", ".join(parts)} (or * for all)'
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


def check_one_image(
    model: nn.Module, stage: Stage, image_size: tuple[int, int], processes: int
) -> None:
    """See that a stage can learn from one image per step and process.

    A batch norm that learns from it needs more than one value per channel, and gets one of what
    is pooled over the whole image. The network is run once, on an empty image; nothing of it
    changes but its training mode.

    Args:
        model: the network.
        stage: decides what learns.
        image_size: rows and columns of the images it learns from.
        processes: how many share a batch.

    Raises:
        MultishiftError: there is such a batch norm.
    """
    set_training_mode(model, stage)
    norms = {m: n for n, m in model.named_modules() if isinstance(m, _BatchNorm) and m.training}
    starved: list[str] = []

    def note(norm: _BatchNorm, inputs: tuple[Tensor]) -> None:
        if inputs[0].numel() == inputs[0].shape[1]:
            starved.append(norms[norm])

    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    if norms:
        model.eval()
        with torch.no_grad():
            model(torch.zeros(1, 3, *image_size, device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    if starved:
        raise MultishiftError(
            f'stage {stage.name}: batch_size {processes} gives each process one image, of which '
            f'batch norm {starved[0]} gets one value per channel: set batch_size to '
            f'{2 * processes} or more, or batch_norm to frozen'
        )


def check_reach(model: SegmentationModel, stage: Stage, losses: Losses) -> None:
    """See that the losses of a stage depend on something that learns.

    The network is run once, on two small images of noise, which stand for a pair where the method
    wants one. Nothing of it changes but its training mode, and torch's random state is kept.

    Args:
        model: the network, with the parameters of the stage let learn (`choose_trainable`).
        stage: decides what learns.
        losses: of its method.

    Raises:
        MultishiftError: they depend on nothing that learns.
    """
    device = next(model.parameters()).device
    model.eval()  # batch norms keep their statistics
    with torch.random.fork_rng([device] if device.type == 'cuda' else []), torch.enable_grad():
        images = torch.rand(2, 3, *_SMALL, device=device)
        labels = torch.zeros(2, *_SMALL, dtype=torch.int64, device=device)
        labels[:, ::2] = NOVEL  # pairs of known and novel pixels, for whatever loss wants them
        parts = losses(model(images), labels, lambda values: values)
    if not any(part.requires_grad for part in parts.values()):
        raise MultishiftError(
            f'stage {stage.name}: no loss of its method depends on '
            f'{", ".join(stage.trainable)}: let other parts learn'
        )


def _under(name: str, prefix: str) -> bool:
    return prefix == '*' or name == prefix or name.startswith(prefix + '.')

# SPDX-License-Identifier: Apache-2.0
"""Which parts of a network learn in a stage, and which run as in evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_perception.schema.words import did_you_mean
from multishift_training.datasets.batch import Batch, Sample, collate, of_domain
from multishift_training.loop.config import Stage
from multishift_training.methods import Context, Method
from multishift_training.models import Prediction
from multishift_training.models.input_scale import Normalize
from multishift_training.models.mask_network import MaskNetwork

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
        if not any(under(name, prefix) for name in names):
            parts = sorted({name.split('.')[0] for name in names})
            raise MultishiftError(
                f'stage {stage.name}: trainable {prefix!r} is no part of the network'
                f'{did_you_mean(prefix, _prefixes(names))}: it has {", ".join(parts)} (or * for '
                'all)'
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(under(name, prefix) for prefix in stage.trainable))


def check_learning_rates(model: nn.Module, state: nn.Module | None, stage: Stage) -> None:
    """See that the parts that a method gives a learning rate of their own are there.

    Args:
        model: the network.
        state: what the stage's method trains beside it.
        stage: whose method is asked.

    Raises:
        MultishiftError: a prefix is no part of the network or the state.
    """
    names = [name for name, _ in model.named_parameters()]
    if state is not None:
        names += [name for name, _ in state.named_parameters(prefix='state')]
    for prefix in stage.method.learning_rate_factors:
        if not any(under(name, prefix) for name in names):
            raise MultishiftError(
                f'stage {stage.name}: method {stage.method.kind} gives a learning rate factor to '
                f'{prefix!r}, which is no part of the network or of its own state'
                f'{_did_you_mean_part(prefix, names)}: parts of the state start with `state.`'
            )


def set_training_mode(model: nn.Module, stage: Stage) -> None:
    """Put the network in training mode, its batch norms and its masks as the stage wants them.

    Parts without a parameter that learns run as in evaluation where the method wants it so.
    """
    model.train()
    if stage.method.evaluates_frozen:
        for part in model.children():
            part.train(any(parameter.requires_grad for parameter in part.parameters()))
    for module in model.modules():
        if isinstance(module, MaskNetwork):
            module.classes_first = stage.method.takes_masks
    if stage.batch_norm == 'all':
        return
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            learns = any(p.requires_grad for p in module.parameters())
            used = {
                'trained': learns,
                'decoder': learns and not under(name, 'backbone'),
                'frozen': False,
            }
            module.train(used[stage.batch_norm])


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


def small_batch(method: Method, members: int, domains: int = 1) -> Batch:
    """Return a batch of small images of noise, as a method sees them.

    It is one sample of each domain, of as many members as those of the data; of single images it
    is two at least.

    Args:
        method: the method.
        members: images of a sample as it is read.
        domains: of the data.
    """
    rng = np.random.default_rng(0)
    samples = []
    for domain in range(max(domains, 2 // members)):
        labels = np.zeros((members, *_SMALL), np.uint8)
        labels[:, ::2] = NOVEL  # pairs of known and novel pixels, for whatever loss wants them
        images = rng.integers(0, 256, (members, *_SMALL, 3), np.uint8)
        others = [(images[0], labels[0])] * method.others
        sample = Sample(images, labels, domain=domain % domains, others=others)
        samples.append(of_domain(method.views(sample, rng), sample.domain))
    return collate(samples)


def check_reach(stage: Stage, batch: Batch, context: Context) -> None:
    """See that the losses of a stage are scalars that depend on something that learns.

    The network is run once. Nothing of it, or of the method's state, changes but its training
    mode, and torch's random state is kept.

    Args:
        stage: decides what learns; the network lets it (`choose_trainable`).
        batch: what the losses are taken on.
        context: of the losses.

    Raises:
        MultishiftError: they are no scalars by name, or depend on nothing that learns; or the
            network's outputs are not of the image's size.
    """
    model = context.model
    device = next(model.parameters()).device
    normalize = Normalize(model.input_scale).to(device)
    model.eval()  # batch norms keep their statistics
    tensors = list(model.buffers())
    if context.state is not None:  # whose parameters losses may move, too, as those of a teacher
        tensors += [*context.state.buffers(), *context.state.parameters()]
    before = [tensor.clone() for tensor in tensors]
    with torch.random.fork_rng([device] if device.type == 'cuda' else []), torch.enable_grad():
        moved = batch.moved(lambda values: values.to(device))
        moved = moved._replace(labels=moved.labels.long())
        prediction = model(normalize(moved.images))
        _check_sizes(prediction, moved.labels)
        losses = stage.method.losses(prediction, moved, context)
    _check_scalars(losses, stage)
    with torch.no_grad():
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
    if not any(loss.requires_grad for loss in losses.values()):
        raise MultishiftError(
            f'stage {stage.name}: no loss of its method depends on '
            f'{", ".join(stage.trainable)}: let other parts learn'
        )


def _check_sizes(prediction: Prediction, labels: Tensor) -> None:
    size = labels.shape[1:]
    for name, found in (('logits', prediction.logits), ('score', prediction.score)):
        if found.shape[-2:] != size:
            raise MultishiftError(
                f'the network gives {name} of shape {list(found.shape)} for images of '
                f'{list(size)}: enlarge them to the size that its forward is given, or to that '
                'of the image'
            )


def _check_scalars(losses: object, stage: Stage) -> None:
    of = f'stage {stage.name}: method {stage.method.kind}'
    if not isinstance(losses, Mapping):
        raise MultishiftError(
            f'{of} returns losses that are {_form(losses)}: return a dict of scalars by name'
        )
    if not losses:
        raise MultishiftError(f'{of} returns no loss: return a dict of scalars by name')
    for name, loss in losses.items():
        if not isinstance(loss, Tensor) or loss.ndim:
            raise MultishiftError(
                f'{of} returns a loss {name} that is {_form(loss)}: return a scalar tensor, such '
                'as the mean'
            )


def _form(value: object) -> str:
    if isinstance(value, Tensor):
        return f'a tensor of shape {list(value.shape)}'
    return f'of type {type(value).__name__}'


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the names of parameters and of all parts that hold some."""
    return sorted({p for name in names for p in accumulate(name.split('.'), '{}.{}'.format)})


def _did_you_mean_part(prefix: str, names: Iterable[str]) -> str:
    parts = _prefixes(names)
    of_state = f'state.{prefix}'
    return did_you_mean(of_state if of_state in parts else prefix, parts)


def under(name: str, prefix: str) -> bool:
    """Return whether a parameter is in the part of a network that a prefix names."""
    return prefix == '*' or name == prefix or name.startswith(prefix + '.')

# SPDX-License-Identifier: Apache-2.0
"""Episodes of meta-learning: what a network would say after a step that some domains want."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, TrainingData
from multishift_training.methods.method import Context

if TYPE_CHECKING:
    from torch import Tensor

    from multishift_training.models import Prediction

# How many domains are for meta-testing: one, or as many as are drawn.
Tested = Literal['one', 'any']


def check_domains(data: TrainingData, method: str) -> None:
    """See that there are domains to hold back.

    Args:
        data: what a run learns from.
        method: name of the method, for the message.

    Raises:
        MultishiftError: there is but one.
    """
    if len(data.domains) < 2:
        raise MultishiftError(
            f'method {method} holds domains back from others, and data.images are one: give a '
            'list of two or more'
        )


def draw_tested(batch: Batch, context: Context, tested: Tested) -> Tensor:
    """Return which images are for meta-testing, ``bool [B]``; none where all are of one domain.

    Torch's random state draws the domains, at least one for each part. The host waits for the
    device, to know which domains there are.
    """
    import torch

    present = sorted(set(context.gather(batch.domains).tolist()))
    order = torch.randperm(len(present))
    count = int(torch.randint(1, len(present), ())) if len(present) > 1 else 0
    if tested == 'one':
        count = min(count, 1)
    held_back = [present[i] for i in order[:count]]
    return torch.isin(batch.domains, batch.domains.new_tensor(held_back))


def after_step(
    loss: Tensor,
    parameters: Mapping[str, Tensor],
    batch: Batch,
    context: Context,
    *,
    size: float,
    second_order: bool,
) -> dict[str, Tensor]:
    """Return parameters after a step of gradient descent; those that the loss does not reach stay.

    Args:
        loss: of the whole batch.
        parameters: by name; those that do not learn stay, too.
        batch: this process's share of it.
        context: of the losses.
        size: of the step.
        second_order: differentiate the step too, rather than take its direction for constant.
    """
    import torch

    learning = {n: p for n, p in parameters.items() if p.requires_grad}
    with _differentiating():
        found = torch.autograd.grad(
            loss,
            list(learning.values()),
            retain_graph=True,
            create_graph=second_order,
            allow_unused=True,
        )
    pairs = zip(learning, found, strict=True)
    reached = {name: gradient for name, gradient in pairs if gradient is not None}
    gradients = _mean_of_processes(reached, batch, context)
    moved = {name: learning[name] - size * gradient for name, gradient in gradients.items()}
    return {**parameters, **moved}


@contextmanager
def _differentiating() -> Iterator[None]:
    """Let gradients pass what Fabric returned: in mixed precision, its own alone may.

    It would scale losses in fp16, which no run here has.
    """
    from lightning_fabric import wrappers

    before = wrappers._in_fabric_backward
    wrappers._in_fabric_backward = True
    try:
        yield
    finally:
        wrappers._in_fabric_backward = before


def _mean_of_processes(
    gradients: dict[str, Tensor], batch: Batch, context: Context
) -> dict[str, Tensor]:
    """Return the gradients of the whole batch.

    Each process has those of its share, times the number of processes, as what is gathered hands
    back the gradients of all.
    """
    import torch

    if len(context.gather(batch.domains)) == len(batch.domains) or not gradients:
        return gradients
    flat = torch.cat([gradient.flatten() for gradient in gradients.values()])
    mean = context.gather(flat.repeat(batch.members, 1)).mean(0)
    parts = torch.split(mean, [gradient.numel() for gradient in gradients.values()])
    pairs = zip(gradients.items(), parts, strict=True)
    return {name: part.view_as(gradient) for (name, gradient), part in pairs}


def predict(
    context: Context,
    parameters: Mapping[str, Tensor],
    batch: Batch,
    buffers: Mapping[str, Tensor] | None = None,
) -> Prediction:
    """Return what a network would say with other parameters; its buffers stay as they are.

    It is in the type that the run's precision computes in.

    Args:
        context: of the losses.
        parameters: by name, in place of its own.
        batch: what it sees; the prediction is at the rows and columns of the labels.
        buffers: by name, some in place of its own.
    """
    from torch.func import functional_call

    from multishift_training.models.input_scale import Normalize

    model = context.model
    weight = next(model.parameters())
    normalize = Normalize(model.input_scale).to(weight.device)
    images = normalize(batch.images).to(weight.dtype)
    own = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = {**parameters, **own, **(buffers or {})}
    size = tuple(batch.labels.shape[1:])
    with context.autocast():
        prediction: Prediction = functional_call(model, state, (images, size))
    return prediction


@contextmanager
def one_image_in_one_line(method: str, shown: Batch, batch: Batch) -> Iterator[None]:
    """Say what is wrong where a batch norm has one value per channel.

    Args:
        method: name of the method.
        shown: what is seen.
        batch: of which it is a part.

    Raises:
        MultishiftError: it has.
    """
    try:
        yield
    except ValueError as error:
        if len(shown.images) > 1:
            raise
        domains = len(set(batch.domains.tolist()))
        raise MultishiftError(
            f'method {method} shows the network one image, of which a batch norm gets one '
            f'value per channel: set batch_size to {2 * domains} or more for each process, or '
            'batch_norm to frozen'
        ) from error

# SPDX-License-Identifier: Apache-2.0
"""Reads the figures of each training step while the next one computes.

A host that reads a number of a GPU waits until all that the GPU was given is done; meanwhile the
GPU gets nothing new to do. Read a step later, the number is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from multishift_perception.engine.page_locked import pinned
from multishift_perception.errors import MultishiftError
from multishift_training.datasets.batch import Batch
from multishift_training.loop.run_folder import Epoch

GRADIENT, WEIGHTS = 'norm of the gradient', 'norm of the weights'
_NORMS = {GRADIENT: 'the gradient is', WEIGHTS: 'the weights are'}


class NotFiniteError(MultishiftError):
    """A loss, the gradient or the weights are not finite: the run has diverged."""


class _Observed(NamedTuple):
    """A step whose figures are on their way to the host.

    Attributes:
        step: its number in the epoch, from 1.
        batch: what it was taken on, as it was loaded.
        names: of its figures.
        values: ``float32 [F]`` on the host, right once `wait` has returned.
        wait: returns as soon as the values are there.
    """

    step: int
    batch: Batch
    names: tuple[str, ...]
    values: Tensor
    wait: Callable[[], None]


class Watch:
    """Reads a step's figures once the next one is given to the device; none is ever left out."""

    def __init__(self, keep_batch: Callable[[Batch], Path]) -> None:
        """Take what writes a batch to be looked into, and returns its path."""
        self._keep_batch = keep_batch
        self._observed: _Observed | None = None

    def observe(self, step: int, batch: Batch, figures: Mapping[str, Tensor]) -> None:
        """Send the figures of a step to the host, and wait for nothing.

        Args:
            step: number of the step in the epoch.
            batch: what it was taken on.
            figures: scalars by name, norms of gradient and weights among them.
        """
        values = torch.stack([figure.detach().float() for figure in figures.values()])
        self._observed = _Observed(step, batch, tuple(figures), *to_host(values))

    def read(self, epoch: Epoch) -> dict[str, float]:
        """Return the losses of the step observed last, by name; none where they were read before.

        Raises:
            NotFiniteError: one of the step's figures is not finite; its batch is kept.
        """
        seen, self._observed = self._observed, None
        if seen is None:
            return {}
        seen.wait()
        figures = dict(zip(seen.names, seen.values.tolist(), strict=True))
        if found := _faults(figures):
            path = self._keep_batch(seen.batch)
            raise NotFiniteError(
                f'stage {epoch.stage.name}, epoch {epoch.in_stage + 1}, batch {seen.step}: '
                f'{found}; the batch is in {path}. Lower the learning rate, or set clip_norm, and '
                'start the run in another folder'
            )
        return _losses(figures)


def to_host(values: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """Return where on the host the values will be, and what waits until they are."""
    if not values.is_cuda:
        return values, lambda: None
    arriving = pinned(values.shape, values.dtype)
    arriving.copy_(values, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    return arriving, arrived.synchronize


def gradient_norm(*modules: nn.Module) -> Tensor:
    """Return the norm of the whole gradient, a scalar: not finite if any number of it is not."""
    parameters = (parameter for module in modules for parameter in module.parameters())
    return get_total_norm([p.grad for p in parameters if p.grad is not None])


@torch.no_grad()
def weights_norm(*modules: nn.Module) -> Tensor:
    """Return the norm of all that is saved of them: not finite if any number is not."""
    saved = (tensor for module in modules for tensor in module.state_dict().values())
    return get_total_norm([tensor for tensor in saved if tensor.is_floating_point()])


def _losses(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name not in (GRADIENT, WEIGHTS)}


def _faults(figures: Mapping[str, float]) -> str:
    """Say which figures of a step are not finite; nothing where all are.

    A loss that is not finite spoils gradient and weights too: it alone is named then.
    """
    losses = [f'{k} {v}' for k, v in _losses(figures).items() if not math.isfinite(v)]
    if losses:
        return f'the loss is not finite ({", ".join(losses)})'
    for name, words in _NORMS.items():
        if not math.isfinite(figures[name]):
            return f'{words} not finite ({name} {figures[name]})'
    return ''

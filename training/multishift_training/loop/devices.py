# SPDX-License-Identifier: Apache-2.0
"""The devices a run trains on: one, or those that `torchrun` gives it."""

from __future__ import annotations

import logging
import os
from typing import Literal

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
import torch
from torch import Tensor, nn

_PRECISIONS: dict[str, Literal['32-true', 'bf16-mixed']] = {
    'fp32': '32-true',
    'bf16': 'bf16-mixed',
}
# What tells a process that it is one of several; beside these, what begins with words of its own.
_TORCHRUN = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')


def make_fabric(precision: Literal['fp32', 'bf16']) -> Fabric:
    """Return the launched Fabric of this process.

    Under `torchrun`, every process of its has a device of its own (DDP); otherwise the one
    process has the first GPU, or the CPU.
    """
    processes = int(os.environ.get('WORLD_SIZE', 1))
    local = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    fabric = Fabric(
        # A stage may train parameters that its losses do not reach, such as an unused classifier.
        strategy=DDPStrategy(find_unused_parameters=True) if processes > 1 else 'auto',
        devices=local,
        num_nodes=processes // local,
        precision=_PRECISIONS[precision],
    )
    fabric.launch()
    if not fabric.is_global_zero:
        # Of several processes, one talks.
        logging.getLogger('multishift_training').setLevel(logging.ERROR)
    return fabric


def leave_cores_to(loaders: int) -> None:
    """Compute on fewer threads, so that as many processes that load data have cores of their own.

    Where every core computes, a thread that has to share its one holds all others up: they spin
    until it is done.
    """
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores - loaders)))


def is_first_process() -> bool:
    """Return whether this process is the only one, or the first of those of `torchrun`."""
    return int(os.environ.get('RANK', 0)) == 0


def share_gradients(fabric: Fabric, module: nn.Module) -> None:
    """Give the parameters of a module, in each process, the mean of all processes' gradients.

    For modules that losses call themselves: those that Fabric wraps do it while they are
    differentiated. What no process reached gets zeros.
    """
    if fabric.world_size == 1:
        return
    learning = [p for p in module.parameters() if p.requires_grad]
    if not learning:
        return
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
    mean = fabric.all_reduce(torch.cat([g.flatten() for g in own]), reduce_op='mean')
    assert isinstance(mean, Tensor)
    parts = torch.split(mean, [p.numel() for p in learning])
    for parameter, gradient in zip(learning, parts, strict=True):
        parameter.grad = gradient.view_as(parameter)


def gathered(fabric: Fabric, values: Tensor, members: int) -> Tensor:
    """Return ``[W*B,...]`` of the ``[B,...]`` of each of W processes, with gradients.

    Args:
        fabric: knows the other processes.
        values: of this process; the first dimension holds all first members of its samples, then
            all second ones.
        members: images of a sample; their order is kept over the whole batch.
    """
    if fabric.world_size == 1:
        return values
    joined = fabric.all_gather(values, sync_grads=values.requires_grad)
    assert isinstance(joined, Tensor)
    by_member = joined.reshape(len(joined), members, -1, *values.shape[1:])
    return by_member.transpose(0, 1).flatten(0, 2)


def leave_torchrun() -> None:
    """Make this process one on its own from now on, with the GPU of its place on the host.

    For work that the processes of `torchrun` share out rather than do together; before anything
    uses a GPU.
    """
    if 'LOCAL_RANK' in os.environ and torch.cuda.device_count():
        seen = os.environ.get('CUDA_VISIBLE_DEVICES')
        devices = seen.split(',') if seen else [str(i) for i in range(torch.cuda.device_count())]
        place = int(os.environ['LOCAL_RANK']) % len(devices)
        os.environ['CUDA_VISIBLE_DEVICES'] = devices[place]
    for name in list(os.environ):
        if name in _TORCHRUN or name.startswith(('TORCHELASTIC_', 'GROUP_', 'ROLE_')):
            del os.environ[name]
